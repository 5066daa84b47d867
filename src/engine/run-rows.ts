import { HatcheryError, type ErrorRecord } from '../core/errors.js';
import {
  canMachineChange,
  canRunChange,
  canStepChange,
  isRunOver,
  type MachineState,
  type RunState,
  type StepState,
} from '../core/states.js';
import type { CompiledStep } from '../plan/compiled-plan.js';
import { durationMs, type AnyEffect, type MachineFacts, type Registry } from '../plan/step.js';
import { render } from '../plan/workflow.js';
import type { HeldStep, LoadedRun, RunChanges, StepRow } from '../ports/run-store.js';
import { actGroup, undoGroup } from './groups.js';
import { forPeople } from './for-people.js';
import { mayStillArrive, type Pace, type RetryGaps } from './pace.js';

/** Worker deaths in a row after which a run is claimed alone: by themselves, and among those of workers that had nothing of it. */
const DEATHS_BEFORE_ALONE = { byThemselves: 3, among: 10 };

/** What expressions refer to. */
type Scope = Readonly<Record<'inputs' | 'steps', unknown>>;

/**
 * The rows of one run while its row is locked, and what has to be written of them: lookups, and changes that are lawful by themselves.
 * What a change means for the run is said by run-model.ts, run-advance.ts and run-deeds.ts, and by nobody else. An unlawful change throws `internal`.
 */
export class RunRows {
  readonly changes: RunChanges = {
    run: false,
    machine: false,
    steps: new Set(),
    events: [],
    dispatches: [],
    ended: [],
    confirmed: [],
    freed: [],
    released: false,
    judged: [],
    audits: [],
  };

  /** Steps whose attempt ended in this transaction with a request that may still be on its way. */
  private readonly unsureNow = new Set<string>();
  /** Effects that a person lets go of in this transaction. */
  readonly letGo = new Set<string>();

  constructor(
    readonly at: LoadedRun,
    readonly registry: Registry,
    readonly pace: Pace,
  ) {}

  get effects(): LoadedRun['effects'] {
    return this.at.effects.filter(({ id }) => !this.letGo.has(id));
  }

  effectsOf(step: StepRow): LoadedRun['effects'] {
    return this.effects.filter((effect) => effect.stepId === step.id);
  }

  private definitionOf(effect: LoadedRun['effects'][number]): AnyEffect | undefined {
    return this.registry.effects.get(`${effect.kind}@${effect.version}`);
  }

  scope(): Scope {
    return {
      inputs: this.at.run.inputs,
      steps: Object.fromEntries(this.at.steps.map((row) => [row.key, row.output ?? null])),
    };
  }

  isPassed(key: string): boolean {
    const { state } = this.byKey(key);
    return (
      state === 'done' ||
      state === 'skipped' ||
      (state === 'failed' && this.compiled(key).onFailure === 'continue')
    );
  }

  isKnown(step: StepRow): boolean {
    if (step.state !== 'undoing') return this.registry.steps.get(step.uses)?.version === step.version;
    return this.effectsOf(step).every((effect) => this.definitionOf(effect) !== undefined);
  }

  isUnsure(step: StepRow): boolean {
    return this.unsureUntilMs(step) > this.at.nowMs;
  }

  unsureUntilMs(step: StepRow): number {
    if (this.unsureNow.has(step.id)) return this.at.nowMs + this.pace.settleMs;
    const ends = this.at.attemptEnds
      .filter((end) => end.stepId === step.id && mayStillArrive(end.outcome, end.code))
      .map((end) => end.endedAtMs);
    return Math.max(0, ...ends) + this.pace.settleMs;
  }

  /** Slots of the next attempt, to act or to undo. */
  slotsOf(step: StepRow): readonly string[] | undefined {
    const slots =
      step.state === 'undoing'
        ? this.effectsOf(step).flatMap((effect) => this.undoSlots(effect))
        : (this.registry.steps
            .get(step.uses)
            ?.slots?.(step.input ?? inputOf(this.compiled(step.key), this.scope())) ?? []);
    return slots.length === 0 ? undefined : [...new Set(slots)];
  }

  private undoSlots(effect: LoadedRun['effects'][number]): readonly string[] {
    const definition = this.definitionOf(effect);
    const payload = definition?.payload.safeParse(effect.payload);
    return payload?.success === true ? (definition?.slots?.(payload.data) ?? []) : [];
  }

  /** The workflow's policy for a step, the newest effect's own for its undo. */
  retryOf(step: StepRow): RetryGaps {
    const compiled = this.compiled(step.key);
    if (step.state !== 'undoing') return compiled.retry;
    const newest = this.effectsOf(step).toSorted((a, b) => b.seq - a.seq)[0];
    const policy = newest && this.definitionOf(newest)?.retry;
    if (!policy) return compiled.retry;
    const { attempts, first, max } = policy;
    return { attempts, firstMs: durationMs(first), maxMs: durationMs(max) };
  }

  /** After an outcome that is known to have made nothing, others may have the slot while this step backs off. */
  letSlotsGo(step: StepRow): void {
    this.free([step]);
    step.slots = this.slotsOf(step);
  }

  /** Another attempt; of a step that is no longer wanted only its undo is left. The slots of a group are its leader's: nobody keeps them. */
  again(step: StepRow, afterMs: number): void {
    if (step.groupKey !== undefined) this.letSlotsGo(step);
    if (step.state === 'running') this.toStep(step, 'ready');
    if (step.state === 'undoing' || this.at.run.wanted === 'done') this.makeDue(step, afterMs);
  }

  makeDue(step: StepRow, afterMs: number): void {
    step.dueAtMs = this.at.nowMs + afterMs;
    step.groupKey = this.groupOf(step);
    step.isGathering = step.groupKey !== undefined;
    if (step.isGathering) step.slots ??= [];
    this.dirty(step);
    if (step.slots !== undefined) return;
    step.dispatch += 1;
    this.changes.dispatches.push({ stepId: step.id, number: step.dispatch, dueAtMs: step.dueAtMs });
  }

  /** Whoever works on it has nothing else in hand. */
  get goesAlone(): boolean {
    const { deaths, deathsAmong } = this.at.run;
    return deaths >= DEATHS_BEFORE_ALONE.byThemselves || deathsAmong >= DEATHS_BEFORE_ALONE.among;
  }

  /** What the next attempt is made together with; undefined = nothing. */
  private groupOf(step: StepRow): string | undefined {
    if (this.goesAlone) return undefined;
    if (step.state !== 'undoing') return actGroup(this.registry.steps.get(step.uses), step);
    const [effect, ...more] = this.effectsOf(step);
    if (effect === undefined || effect.shared || more.length > 0) return undefined;
    return undoGroup(this.definitionOf(effect), effect.payload);
  }

  /** Lets go of the slots that these steps may hold. */
  free(steps: readonly StepRow[]): void {
    for (const step of steps) if (this.mayHoldSlots(step)) this.changes.freed.push(step.id);
  }

  /** Slots to act in, or to undo what it made in; of a version that is not known here nobody can tell. */
  private mayHoldSlots(step: StepRow): boolean {
    const definition = this.registry.steps.get(step.uses);
    return (
      definition?.version !== step.version ||
      definition.slots !== undefined ||
      this.effectsOf(step).length > 0
    );
  }

  release(held: HeldStep, outcome: RunChanges['ended'][number]['outcome'], error?: ErrorRecord): StepRow {
    const step = this.step(held.stepId);
    this.changes.ended.push({
      ...held,
      kind: step.state === 'undoing' ? 'undo' : 'act',
      startedAtMs: step.claimedAtMs ?? this.at.nowMs,
      outcome,
      error,
    });
    step.workerId = undefined;
    step.claimedAtMs = undefined;
    this.dirty(step);
    if (mayStillArrive(outcome, error?.code)) this.unsureNow.add(step.id);
    return step;
  }

  /** A person has to look at it; meanwhile others may have its slots. */
  parkStep(step: StepRow, cause: ErrorRecord): void {
    const isUndo = step.state === 'undoing';
    const error = forPeople(cause, this.at, step);
    step.dueAtMs = undefined;
    step.slots = undefined;
    this.toStep(step, isUndo ? 'undo-parked' : 'parked', error);
    this.free(isUndo ? this.at.steps : [step]);
    if (isUndo || this.at.run.wanted === 'done') this.toMachine('parked', error);
  }

  learn(facts: MachineFacts): void {
    const { machine } = this.at;
    if (facts.node !== undefined) machine.node = facts.node;
    if (facts.address !== undefined) machine.address = facts.address;
    if (facts.link !== undefined) machine.link = facts.link;
    if (facts.incarnation !== undefined) machine.incarnation = facts.incarnation;
    if (facts.secretRef !== undefined) machine.secretRef = facts.secretRef;
    if (Object.keys(facts).length > 0) this.changes.machine = true;
  }

  toStep(step: StepRow, state: StepState, error?: ErrorRecord): void {
    if (!canStepChange(step.state, state)) throw unlawful(`step ${step.key}`, step.state, state);
    step.state = state;
    if (state !== 'ready' && state !== 'running' && state !== 'undoing') leaveGroup(step);
    if (error !== undefined) step.error = error;
    this.dirty(step);
    this.changes.events.push({
      type: 'step.state',
      step: step.key,
      state,
      ...(error === undefined ? {} : { code: error.code }),
    });
  }

  toRun(state: RunState): void {
    const { run } = this.at;
    if (!canRunChange(run.state, state)) throw unlawful('the run', run.state, state);
    run.state = state;
    if (isRunOver(state) && state === 'done') run.error = undefined;
    this.changes.run = true;
  }

  toRunIfNot(state: RunState): void {
    if (this.at.run.state !== state) this.toRun(state);
  }

  toMachine(state: MachineState, error?: ErrorRecord): void {
    const { machine } = this.at;
    if (machine.state === state) return;
    if (!canMachineChange(machine.state, state)) throw unlawful('the machine', machine.state, state);
    machine.state = state;
    machine.error = error;
    this.changes.machine = true;
    this.changes.events.push({
      type: 'machine.state',
      state,
      ...(error === undefined ? {} : { code: error.code }),
    });
  }

  dirty(step: StepRow): void {
    this.changes.steps.add(step.id);
  }

  step(id: string): StepRow {
    const found = this.at.steps.find((step) => step.id === id);
    if (!found)
      throw new HatcheryError('internal', `Unable to change step ${id}: it is not of run ${this.at.run.id}`);
    return found;
  }

  byKey(key: string): StepRow {
    const found = this.at.steps.find((step) => step.key === key);
    if (!found)
      throw new HatcheryError(
        'internal',
        `Unable to go on with run ${this.at.run.id}: its plan names step ${key}, which has no row`,
      );
    return found;
  }

  compiled(key: string): CompiledStep {
    const found = this.at.plan.steps.find((step) => step.key === key);
    if (!found)
      throw new HatcheryError(
        'internal',
        `Unable to go on with run ${this.at.run.id}: its plan has no step ${key}`,
      );
    return found;
  }
}

export function leaveGroup(step: StepRow): void {
  step.groupKey = undefined;
  step.isGathering = false;
}

/** What a step is given; the same for as long as the outputs that it needs stay. */
export const inputOf = (compiled: CompiledStep, scope: Scope): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(compiled.with).map(([name, template]) => [name, render(template, scope)]),
  );

const unlawful = (what: string, from: string, to: string): HatcheryError =>
  new HatcheryError('internal', `Unable to change ${what}: ${from} does not lead to ${to}`);
