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
import { evaluate, isTruthy } from '../plan/expression.js';
import type { AnyEffect, AnyStep, MachineFacts } from '../plan/step.js';
import { render } from '../plan/workflow.js';
import type { HeldStep, LoadedRun, RunChanges, StepRow } from '../ports/run-store.js';

/** Steps by id, effects by `kind@version`: what the model asks for slots. */
export interface Registry {
  readonly steps: ReadonlyMap<string, AnyStep>;
  readonly effects: ReadonlyMap<string, AnyEffect>;
}

/** Worker deaths after which a run is claimed alone, and deaths while alone after which it is parked. */
export const DEATHS_BEFORE_ALONE = 3;
export const DEATHS_BEFORE_PARKED = 3;

export type ClaimRefusal = 'not-due' | 'not-admitted' | 'unknown-version' | 'alone';

/** A failure as the attempt reports it. `again` = the thrower says that a repeat may help. */
export interface Failure {
  readonly error: ErrorRecord;
  readonly retry: 'later' | 'never' | 'after-fix';
  readonly afterMs: number | undefined;
}

/**
 * One run in memory while its row is locked: the only place where runs, steps and machines change state.
 * Methods change the rows and collect what has to be written; they do no IO. An unlawful change throws `internal`.
 */
export class RunModel {
  readonly changes: RunChanges = {
    run: false,
    machine: false,
    steps: new Set(),
    events: [],
    dispatches: [],
    ended: [],
    begun: [],
    confirmed: [],
    freed: [],
    released: false,
  };

  constructor(
    private readonly at: LoadedRun,
    private readonly registry: Registry,
    /** Wait before the undo of a step whose last request may still arrive: lease + longest request, milliseconds. */
    private readonly settleMs: number,
  ) {}

  /** A worker takes a due step under a new epoch. */
  claim(
    stepId: string,
    worker: { id: string; knows: (uses: string, version: number) => boolean; isAlone: boolean },
  ): HeldStep | { refused: ClaimRefusal } {
    const step = this.step(stepId);
    const isUndo = step.state === 'undoing';
    if (
      (step.state !== 'ready' && !isUndo) ||
      step.workerId !== undefined ||
      step.dueAtMs === undefined ||
      step.dueAtMs > this.at.nowMs
    )
      return { refused: 'not-due' };
    if (!isUndo && this.at.run.wanted === 'gone') return { refused: 'not-due' };
    if (step.slots !== undefined) return { refused: 'not-admitted' };
    if (!isUndo && !worker.knows(step.uses, step.version)) return { refused: 'unknown-version' };
    if (this.at.run.deaths >= DEATHS_BEFORE_ALONE && !worker.isAlone) return { refused: 'alone' };
    step.epoch += 1;
    step.workerId = worker.id;
    step.dueAtMs = undefined;
    step.firstClaimedAtMs ??= this.at.nowMs;
    if (!isUndo) this.toStep(step, 'running');
    this.dirty(step);
    if (this.at.run.state === 'queued') this.toRun('running');
    if (this.at.machine.state === 'reserved') this.toMachine('creating');
    this.changes.begun.push({
      stepId,
      epoch: step.epoch,
      kind: isUndo ? 'undo' : 'act',
      workerId: worker.id,
    });
    return { stepId, epoch: step.epoch, workerId: worker.id };
  }

  /** True when the worker still holds the step: the fence in front of every result. */
  isHeld(held: HeldStep): boolean {
    const step = this.at.steps.find((row) => row.id === held.stepId);
    return step?.workerId === held.workerId && step.epoch === held.epoch;
  }

  done(held: HeldStep, output: unknown, facts: MachineFacts): void {
    const step = this.release(held, 'done');
    this.toStep(step, 'done');
    step.output = output;
    step.error = undefined;
    step.percent = 100;
    this.changes.confirmed.push(step.id);
    this.changes.freed.push(step.id);
    this.learn(facts);
    this.advance();
  }

  /** The step gives its worker back and wants another attempt later; its slots stay, for its remote work may go on. */
  wait(held: HeldStep, afterMs: number, facts: MachineFacts): void {
    const step = this.release(held, 'waiting');
    this.learn(facts);
    this.toStep(step, 'ready');
    this.makeDue(step, afterMs);
    this.advance();
  }

  failed(held: HeldStep, failure: Failure, facts: MachineFacts): void {
    const isUndo = this.step(held.stepId).state === 'undoing';
    const compiled = this.compiled(this.step(held.stepId).key);
    const step = this.step(held.stepId);
    this.learn(facts);
    step.tries += 1;
    step.error = failure.error;
    const again =
      failure.retry === 'later' &&
      (step.tries < compiled.retry.attempts || isUndoPatient(isUndo, step.tries));
    if (again) {
      this.release(held, 'retry', failure.error);
      if (!isUndo) this.toStep(step, 'ready');
      this.letSlotsGo(step, failure.error);
      this.makeDue(step, failure.afterMs ?? backOff(compiled, step.tries));
      this.advance();
      return;
    }
    this.changes.freed.push(step.id);
    if (isUndo) {
      this.release(held, 'parked', failure.error);
      this.toStep(step, 'undo-parked', failure.error);
      this.park(failure.error);
      return;
    }
    this.settleFailure(held, step, compiled, failure);
  }

  private settleFailure(held: HeldStep, step: StepRow, compiled: CompiledStep, failure: Failure): void {
    if (failure.retry === 'after-fix' || compiled.onFailure === 'park') {
      this.release(held, 'parked', failure.error);
      this.toStep(step, 'parked', failure.error);
      if (this.at.run.wanted === 'done') this.toMachine('parked', failure.error);
    } else {
      this.release(held, 'failed', failure.error);
      this.toStep(step, 'failed', failure.error);
      if (compiled.onFailure === 'undo' && this.at.run.wanted === 'done') {
        this.at.run.error = failure.error;
        this.at.run.undoEndsAs = 'failed';
        this.at.run.wanted = 'gone';
        this.changes.run = true;
      }
    }
    this.advance();
  }

  /** The worker stops in good order: the step is due again at once, nobody's fault. */
  handOver(held: HeldStep): void {
    const step = this.release(held, 'handed-over');
    if (step.state === 'running') this.toStep(step, 'ready');
    this.makeDue(step, 0);
  }

  /** The worker died with the step in its hands. Slots stay: the remote task may still run. */
  lost(stepId: string, workerId: string): void {
    const step = this.step(stepId);
    if (step.workerId !== workerId) return;
    this.release({ stepId, epoch: step.epoch, workerId }, 'lost');
    const { run } = this.at;
    if (run.deaths >= DEATHS_BEFORE_ALONE) run.deathsAlone += 1;
    else run.deaths += 1;
    this.changes.run = true;
    if (run.deathsAlone >= DEATHS_BEFORE_PARKED) {
      const error: ErrorRecord = {
        code: 'workers-died',
        message: `Unable to finish step ${step.key}: ${run.deaths + run.deathsAlone} workers died while they did it`,
        hint: 'Look into the workers’ logs, then: hatchery run retry',
      };
      this.toStep(step, step.state === 'undoing' ? 'undo-parked' : 'parked', error);
      this.park(error);
      return;
    }
    if (step.state === 'running') this.toStep(step, 'ready');
    this.makeDue(step, 0);
    this.advance();
  }

  /** No live worker knows this step's version: a person has to bring one back. */
  parkUnknown(stepId: string): void {
    const step = this.step(stepId);
    if (step.state !== 'ready' || step.workerId !== undefined) return;
    const error: ErrorRecord = {
      code: 'unknown-step',
      message: `Unable to run step ${step.key}: no live worker knows ${step.uses} version ${step.version}`,
      hint: 'Start a worker of a build that has it, then: hatchery run retry',
    };
    step.dueAtMs = undefined;
    this.toStep(step, 'parked', error);
    this.park(error);
  }

  /** Cancel or delete: from here no forward step becomes due, and everything made is undone. */
  wantGone(): void {
    const { run, machine } = this.at;
    if (run.state === 'cancelled' || machine.state === 'deleted') return;
    run.wanted = 'gone';
    run.undoEndsAs = 'cancelled';
    this.changes.run = true;
    for (const step of this.at.steps) if (step.state === 'undo-parked') this.undoAgain(step);
    if (machine.state !== 'deleting') this.toMachine('deleting');
    this.advance();
  }

  /** Something of ours was found outside after the end: the undo goes on, towards the same end. */
  reopen(): void {
    const { run } = this.at;
    if (run.state !== 'failed' && run.state !== 'cancelled') return;
    run.wanted = 'gone';
    run.undoEndsAs = run.state;
    this.advance();
  }

  /** A person says "again": parked steps become due with fresh tries. Gives how many. */
  retry(): number {
    const parked = this.at.steps.filter((step) => step.state === 'parked' || step.state === 'undo-parked');
    const { run } = this.at;
    if (parked.length === 0) return 0;
    run.deaths = 0;
    run.deathsAlone = 0;
    for (const step of parked) {
      if (step.state === 'undo-parked') this.undoAgain(step);
      else if (run.wanted === 'done') {
        step.tries = 0;
        step.firstClaimedAtMs = undefined;
        this.toStep(step, 'ready');
        this.askSlots(step);
        this.makeDue(step, 0);
      }
    }
    if (run.wanted === 'done') {
      // It runs still when a step beside the parked one is not over yet.
      this.toRunIfNot('running');
      this.toMachine('creating');
    } else this.toMachine('deleting');
    this.advance();
    return parked.length;
  }

  /** The undo of one step is complete. */
  undone(held: HeldStep): void {
    const step = this.release(held, 'done');
    this.toStep(step, 'undone');
    this.changes.freed.push(step.id);
    this.advance();
  }

  /** Makes due what may run next, forward or back, and closes the run when nothing is left. */
  advance(): void {
    if (this.at.run.wanted === 'gone') this.advanceUndo();
    else this.advanceForward();
  }

  private advanceForward(): void {
    for (let moved = true; moved;) {
      moved = false;
      for (const compiled of this.at.plan.steps) {
        const step = this.byKey(compiled.key);
        if (step.state !== 'pending' || !compiled.needs.every((need) => this.isPassed(need))) continue;
        moved = true;
        this.enter(step, compiled);
      }
    }
    const states = this.at.steps.map((step) => step.state);
    if (this.at.plan.steps.every((compiled) => this.isPassed(compiled.key))) {
      this.toRun('done');
      this.toMachine('ready');
    } else if (!states.includes('ready') && !states.includes('running') && states.includes('parked'))
      this.toRun('parked');
  }

  private enter(step: StepRow, compiled: CompiledStep): void {
    const scope = {
      inputs: this.at.run.inputs,
      steps: Object.fromEntries(this.at.steps.map((row) => [row.key, row.output ?? null])),
    };
    if (compiled.if !== undefined && !isTruthy(evaluate(compiled.if, scope))) {
      this.toStep(step, 'skipped');
      return;
    }
    step.input = Object.fromEntries(
      Object.entries(compiled.with).map(([name, template]) => [name, render(template, scope)]),
    );
    this.toStep(step, 'ready');
    this.askSlots(step);
    this.makeDue(step, 0);
  }

  private advanceUndo(): void {
    const { steps, effects } = this.at;
    if (steps.some((step) => step.state === 'running')) return;
    if (steps.some((step) => step.state === 'undoing')) return;
    if (steps.some((step) => step.state === 'undo-parked')) return this.toRunIfNot('parked');
    const newest = effects.toSorted((a, b) => b.seq - a.seq)[0];
    if (newest !== undefined) {
      const step = this.step(newest.stepId);
      this.toRunIfNot('undoing');
      if (this.at.machine.state !== 'deleting') this.toMachine('deleting');
      this.undoAgain(step);
      return;
    }
    for (const step of steps) {
      if (step.state === 'pending' || step.state === 'ready' || step.state === 'parked') {
        step.dueAtMs = undefined;
        step.slots = undefined;
        this.changes.freed.push(step.id);
        this.toStep(step, 'skipped');
      }
    }
    const endsAs = this.at.run.undoEndsAs ?? 'cancelled';
    this.toRunIfNot(endsAs);
    this.toMachine(
      endsAs === 'failed' ? 'failed' : 'deleted',
      endsAs === 'failed' ? this.at.run.error : undefined,
    );
    this.changes.released = true;
  }

  private undoAgain(step: StepRow): void {
    step.tries = 0;
    const slots = this.at.effects
      .filter((effect) => effect.stepId === step.id)
      .flatMap((effect) => this.undoSlots(effect));
    step.slots = slots.length === 0 ? undefined : [...new Set(slots)];
    this.toStep(step, 'undoing');
    this.makeDue(step, this.settleWait(step));
  }

  private undoSlots(effect: LoadedRun['effects'][number]): readonly string[] {
    const definition = this.registry.effects.get(`${effect.kind}@${effect.version}`);
    const payload = definition?.payload.safeParse(effect.payload);
    return payload?.success === true ? (definition?.slots?.(payload.data) ?? []) : [];
  }

  /** A request that may still be on its way has to arrive before "nothing is there" can be believed. */
  private settleWait(step: StepRow): number {
    const isUnsure = this.at.effects.some(
      (effect) => effect.stepId === step.id && effect.state === 'intended',
    );
    const last = this.at.lastAttempts.find((attempt) => attempt.stepId === step.id);
    if (!isUnsure || last === undefined || (last.outcome !== 'lost' && !UNSURE.has(last.code ?? '')))
      return 0;
    return Math.max(0, last.endedAtMs + this.settleMs - this.at.nowMs);
  }

  private park(error: ErrorRecord): void {
    this.toRunIfNot('parked');
    if (this.at.machine.state !== 'parked') this.toMachine('parked', error);
  }

  private isPassed(key: string): boolean {
    const { state } = this.byKey(key);
    return (
      state === 'done' ||
      state === 'skipped' ||
      (state === 'failed' && this.compiled(key).onFailure === 'continue')
    );
  }

  private askSlots(step: StepRow): void {
    const slots = this.registry.steps.get(step.uses)?.slots?.(step.input) ?? [];
    step.slots = slots.length === 0 ? undefined : slots;
  }

  /** After an outcome that is known to have made nothing, others may have the slot while this step backs off. */
  private letSlotsGo(step: StepRow, error: ErrorRecord): void {
    if (UNSURE.has(error.code) || step.state !== 'ready') return;
    this.changes.freed.push(step.id);
    this.askSlots(step);
  }

  private makeDue(step: StepRow, afterMs: number): void {
    step.dueAtMs = this.at.nowMs + afterMs;
    this.dirty(step);
    if (step.slots !== undefined) return;
    step.dispatch += 1;
    this.changes.dispatches.push({ stepId: step.id, number: step.dispatch, dueAtMs: step.dueAtMs });
  }

  private release(
    held: HeldStep,
    outcome: RunChanges['ended'][number]['outcome'],
    error?: ErrorRecord,
  ): StepRow {
    const step = this.step(held.stepId);
    step.workerId = undefined;
    this.dirty(step);
    this.changes.ended.push({ stepId: held.stepId, epoch: held.epoch, outcome, error });
    return step;
  }

  private learn(facts: MachineFacts): void {
    const { machine } = this.at;
    if (facts.node !== undefined) machine.node = facts.node;
    if (facts.address !== undefined) machine.address = facts.address;
    if (facts.link !== undefined) machine.link = facts.link;
    if (facts.smbiosUuid !== undefined) machine.smbiosUuid = facts.smbiosUuid;
    if (facts.secretRef !== undefined) machine.secretRef = facts.secretRef;
    if (Object.keys(facts).length > 0) this.changes.machine = true;
  }

  private toStep(step: StepRow, state: StepState, error?: ErrorRecord): void {
    if (!canStepChange(step.state, state)) throw unlawful(`step ${step.key}`, step.state, state);
    step.state = state;
    if (error !== undefined) step.error = error;
    this.dirty(step);
    this.changes.events.push({
      type: 'step.state',
      step: step.key,
      state,
      ...(error === undefined ? {} : { code: error.code }),
    });
  }

  private toRun(state: RunState): void {
    const { run } = this.at;
    if (!canRunChange(run.state, state)) throw unlawful('the run', run.state, state);
    run.state = state;
    if (isRunOver(state) && state === 'done') run.error = undefined;
    this.changes.run = true;
  }

  private toRunIfNot(state: RunState): void {
    if (this.at.run.state !== state) this.toRun(state);
  }

  private toMachine(state: MachineState, error?: ErrorRecord): void {
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

  private dirty(step: StepRow): void {
    this.changes.steps.add(step.id);
  }

  private step(id: string): StepRow {
    const found = this.at.steps.find((step) => step.id === id);
    if (!found)
      throw new HatcheryError('internal', `Unable to change step ${id}: it is not of run ${this.at.run.id}`);
    return found;
  }

  private byKey(key: string): StepRow {
    const found = this.at.steps.find((step) => step.key === key);
    if (!found)
      throw new HatcheryError(
        'internal',
        `Unable to go on with run ${this.at.run.id}: its plan names step ${key}, which has no row`,
      );
    return found;
  }

  private compiled(key: string): CompiledStep {
    const found = this.at.plan.steps.find((step) => step.key === key);
    if (!found)
      throw new HatcheryError(
        'internal',
        `Unable to go on with run ${this.at.run.id}: its plan has no step ${key}`,
      );
    return found;
  }
}

/** Errors after which a request may still be on its way. */
const UNSURE: ReadonlySet<string> = new Set(['outcome-unknown', 'step-timeout']);

/** Undo is owed: it is patient with a remote side that is away, and parks only after many tries. */
const UNDO_TRIES = 12;
const isUndoPatient = (isUndo: boolean, tries: number): boolean => isUndo && tries < UNDO_TRIES;

/** Exponential, capped, with the jitter left to the caller's time stamps: tries 1, 2, 3 wait first, 2 x first, 4 x first. */
function backOff(step: CompiledStep, tries: number): number {
  return Math.min(step.retry.maxMs, step.retry.firstMs * 2 ** Math.max(0, tries - 1));
}

const unlawful = (what: string, from: string, to: string): HatcheryError =>
  new HatcheryError('internal', `Unable to change ${what}: ${from} does not lead to ${to}`);
