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
import {
  durationMs,
  type AnyEffect,
  type MachineFacts,
  type MachineSnapshot,
  type Registry,
} from '../plan/step.js';
import { outputsUsedBy, render } from '../plan/workflow.js';
import type { AuditLine, EffectRow, HeldStep, LoadedRun, RunChanges, StepRow } from '../ports/run-store.js';
import { actGroup, undoGroup } from './groups.js';
import { forPeople } from './for-people.js';
import {
  backOff,
  mayStillArrive,
  noSoonerThan,
  passesByItself,
  waitGap,
  type Pace,
  type RetryGaps,
} from './pace.js';

/** Worker deaths in a row after which a run is claimed alone, and deaths while alone after which it is parked. */
export const DEATHS_BEFORE_ALONE = 3;
export const DEATHS_BEFORE_PARKED = 3;

export type ClaimRefusal = 'not-due' | 'not-admitted' | 'unknown-version' | 'alone' | 'cluster-stopped';

/** A failure as the attempt reports it. `again` = the thrower says that a repeat may help. */
export interface Failure {
  readonly error: ErrorRecord;
  readonly retry: 'later' | 'never' | 'after-fix';
  readonly afterMs: number | undefined;
}

/** What expressions refer to. */
type Scope = Readonly<Record<'inputs' | 'steps', unknown>>;

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
    confirmed: [],
    freed: [],
    released: false,
    judged: [],
    audits: [],
  };

  /** Steps whose attempt ended in this transaction with a request that may still be on its way. */
  private readonly unsureNow = new Set<string>();
  /** Effects that a person lets go of in this transaction. */
  private readonly letGo = new Set<string>();

  constructor(
    private readonly at: LoadedRun,
    private readonly registry: Registry,
    private readonly pace: Pace,
  ) {}

  /** A worker takes a due step under a new epoch; one that gathers only together with the group whose key is given. */
  claim(
    stepId: string,
    worker: { id: string; isAlone: boolean; groupKey?: string },
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
    const isWaiting = step.isGathering ? step.groupKey !== worker.groupKey : step.slots !== undefined;
    if (isWaiting) return { refused: 'not-admitted' };
    if (this.at.isClusterStopped) return { refused: 'cluster-stopped' };
    if (!this.isKnown(step)) return { refused: 'unknown-version' };
    if (this.at.run.deaths >= DEATHS_BEFORE_ALONE && !worker.isAlone) return { refused: 'alone' };
    step.epoch += 1;
    step.workerId = worker.id;
    step.slots = undefined;
    step.isGathering = false;
    step.claimedAtMs = this.at.nowMs;
    step.dueAtMs = undefined;
    step.firstClaimedAtMs ??= this.at.nowMs;
    if (!isUndo) this.toStep(step, 'running');
    this.dirty(step);
    if (this.at.run.state === 'queued') this.toRun('running');
    if (this.at.machine.state === 'reserved') this.toMachine('creating');
    return { stepId, epoch: step.epoch, workerId: worker.id };
  }

  /**
   * The worker that has just ended a step goes on with the next one of the run: what became due in this transaction and waits for nobody (what needs
   * a slot or gathers is not dispatched). Of several it takes the one with the longest way to the end; the others are dispatched.
   */
  goOn(workerId: string): HeldStep | undefined {
    const { dispatches, events } = this.changes;
    const due = dispatches
      .filter((one) => one.dueAtMs <= this.at.nowMs)
      .map((one) => this.step(one.stepId))
      .toSorted((a, b) => b.rank - a.rank);
    for (const step of due) {
      const held = this.claim(step.id, { id: workerId, isAlone: false });
      if ('refused' in held) continue;
      dispatches.splice(
        dispatches.findIndex((one) => one.stepId === step.id),
        1,
      );
      step.dispatch -= 1;
      // It was ready for no time at all.
      const wasReady = events.findIndex((event) => event.step === step.key && event.state === 'ready');
      if (wasReady !== -1) events.splice(wasReady, 1);
      return held;
    }
    return undefined;
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
    this.free([step]);
    this.learn(facts);
    this.survived();
    this.advance();
  }

  /**
   * The step gives its worker back and wants another attempt later; its slots stay, for its remote work may go on. A guest that phoned home
   * after the attempt had looked (`saw`) makes it due at once.
   */
  wait(held: HeldStep, afterMs: number, facts: MachineFacts, saw: MachineSnapshot['phoneHome']): void {
    const step = this.release(held, 'waiting');
    this.learn(facts);
    this.again(step, this.at.machine.phoneHome?.address === saw?.address ? afterMs : 0);
    this.advance();
  }

  /** The guest phoned home. False: its token was used or replaced, or its run is over. A step that waits for it is due at once. */
  toldAddress(hash: string, address: string): boolean {
    const { run, machine } = this.at;
    if (machine.phoneHome?.hash !== hash || machine.phoneHome.address !== undefined) return false;
    if (run.wanted === 'gone' || isRunOver(run.state)) return false;
    machine.phoneHome = { hash, address };
    this.changes.machine = true;
    for (const step of this.at.steps)
      if (
        step.state === 'ready' &&
        step.workerId === undefined &&
        this.registry.steps.get(step.uses)?.wakesOnPhoneHome
      )
        this.makeDue(step, 0);
    return true;
  }

  failed(held: HeldStep, failure: Failure, facts: MachineFacts): void {
    const step = this.step(held.stepId);
    const retry = this.retryOf(step);
    this.learn(facts);
    step.error = failure.error;
    if (failure.retry === 'later' && passesByItself(failure.error)) {
      this.waitForOthers(held, step, failure);
      this.advance();
      return;
    }
    step.tries += 1;
    if (failure.retry === 'later' && step.tries < retry.attempts) {
      this.release(held, 'retry', failure.error);
      if (!this.isUnsure(step)) this.letSlotsGo(step);
      const afterMs =
        failure.afterMs === undefined
          ? backOff(retry, step.tries, this.pace)
          : noSoonerThan(failure.afterMs, this.pace);
      this.again(step, Math.max(afterMs, this.pace.place()));
    } else this.giveUp(held, step, failure);
    this.advance();
  }

  /** Not one of its tries: it is asked for again until the limit, then a person has to look. */
  private waitForOthers(held: HeldStep, step: StepRow, failure: Failure): void {
    const waitedMs = this.at.nowMs - (step.firstClaimedAtMs ?? this.at.nowMs);
    if (waitedMs >= this.pace.waitLimitMs) {
      this.giveUp(held, step, { ...failure, retry: 'after-fix' });
      return;
    }
    this.release(held, 'retry', failure.error);
    if (!this.isUnsure(step)) this.letSlotsGo(step);
    this.again(step, Math.max(waitGap(this.retryOf(step), waitedMs, this.pace), this.pace.place()));
  }

  private giveUp(held: HeldStep, step: StepRow, failure: Failure): void {
    const { onFailure } = this.compiled(step.key);
    if (step.state === 'undoing' || failure.retry === 'after-fix' || onFailure === 'park') {
      this.release(held, 'parked', failure.error);
      this.parkStep(step, failure.error);
      return;
    }
    this.release(held, 'failed', failure.error);
    // What its last request still does outside is followed by its undo, which lets the slot go.
    const isUndoneNext =
      this.effectsOf(step).length > 0 && (onFailure === 'undo' || this.at.run.wanted === 'gone');
    if (!this.isUnsure(step) || !isUndoneNext) this.free([step]);
    this.toStep(step, 'failed', failure.error);
    if (onFailure === 'undo' && this.at.run.wanted === 'done') {
      this.at.run.error = failure.error;
      this.at.run.undoEndsAs = 'failed';
      this.at.run.wanted = 'gone';
      this.changes.run = true;
    }
  }

  /** What the attempt that has just ended said besides. */
  warned(held: HeldStep, warnings: readonly string[]): void {
    const ended = this.changes.ended.find((one) => one.stepId === held.stepId && one.epoch === held.epoch);
    if (ended && warnings.length > 0) ended.warnings = warnings;
  }

  /** The worker stops in good order: the step is due again at once, nobody's fault. */
  handOver(held: HeldStep): void {
    this.again(this.release(held, 'handed-over'), 0);
    this.advance();
  }

  /**
   * The worker died: its steps are due again. Slots stay: the remote tasks may still run.
   * `isOneOfMany`: others died meanwhile, who had nothing of this run. Where workers die anyway, a death while alone says nothing about the run.
   */
  lost(workerId: string, { isOneOfMany = false } = {}): void {
    const steps = this.at.steps.filter((step) => step.workerId === workerId);
    if (steps.length === 0) return;
    const { run } = this.at;
    if (run.deaths < DEATHS_BEFORE_ALONE) run.deaths += 1;
    else if (!isOneOfMany) run.deathsAlone += 1;
    this.changes.run = true;
    const isPoison = run.deathsAlone >= DEATHS_BEFORE_PARKED;
    for (const step of steps) {
      this.release({ stepId: step.id, epoch: step.epoch, workerId }, 'lost');
      if (isPoison && (step.state === 'undoing' || run.wanted === 'done'))
        this.parkStep(step, {
          code: 'workers-died',
          message: `Unable to finish step ${step.key}: ${run.deaths + run.deathsAlone} workers died one after the other while they did it, the last ${run.deathsAlone} with nothing else in hand`,
          hint: `Look for how they ended (their logs, memory, the kernel’s log), then: hatchery run retry ${run.id}`,
          facts: { lastWorker: workerId },
        });
      else this.again(step, 0);
    }
    if (run.deaths >= DEATHS_BEFORE_ALONE) this.leaveGroups();
    this.advance();
  }

  /** A worker that lives does not know that it holds the step (the answer to its claim was lost): it is due again, and nobody died. */
  leftBehind(held: HeldStep): void {
    this.again(this.release(held, 'lost'), 0);
    this.advance();
  }

  /** Only deaths in a row say something about a run: one that kills its workers never brings a step to its end in between. */
  private survived(): void {
    const { run } = this.at;
    if (run.deaths === 0) return;
    run.deaths = 0;
    run.deathsAlone = 0;
    this.changes.run = true;
  }

  /** From now on the run goes by itself: whoever kills workers must not do it to a whole group. */
  private leaveGroups(): void {
    for (const step of this.at.steps)
      if (step.isGathering && step.dueAtMs !== undefined)
        this.makeDue(step, Math.max(0, step.dueAtMs - this.at.nowMs));
  }

  /** No live worker knows this step's version, or how to undo what it made: a person has to bring one back. */
  parkUnknown(stepId: string): void {
    const step = this.step(stepId);
    if ((step.state !== 'ready' && step.state !== 'undoing') || step.workerId !== undefined) return;
    this.parkStep(step, {
      code: 'unknown-step',
      message: `Unable to ${step.state === 'undoing' ? 'undo' : 'run'} step ${step.key}: no live worker knows ${step.uses} version ${step.version}`,
      hint: `Start a worker of a build that has it, then: hatchery run retry ${this.at.run.id}`,
    });
    this.advance();
  }

  /** Cancel or delete: from here no forward step becomes due, and everything made is undone. */
  wantGone(): void {
    const { run, machine } = this.at;
    if (run.state === 'cancelled' || machine.state === 'deleted') return;
    run.wanted = 'gone';
    run.undoEndsAs = 'cancelled';
    this.changes.run = true;
    this.toMachine('deleting');
    for (const step of this.at.steps) if (step.state === 'undo-parked') this.undoAgain(step);
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
    this.changes.run = true;
    for (const step of parked) {
      if (step.state === 'undo-parked') this.undoAgain(step);
      else if (run.wanted === 'done') {
        step.tries = 0;
        step.firstClaimedAtMs = undefined;
        this.toStep(step, 'ready');
        step.slots = this.slotsOf(step);
        this.makeDue(step, 0);
      }
    }
    if (run.wanted === 'done') {
      // It runs still when a step beside the parked one is not over yet.
      this.toRunIfNot('running');
      this.toMachine('creating');
    }
    this.advance();
    return parked.length;
  }

  /** A person did it, and wants to be known for it. */
  audit(line: Omit<AuditLine, 'subject'>): void {
    this.changes.audits.push({ ...line, subject: this.at.run.id });
  }

  /**
   * A person says that a parked step is not needed: what follows goes on without it. What it made stays in the ledger.
   * Errors: `not-found`, `not-applicable` with the reason.
   */
  skip(key: string): void {
    const step = this.at.steps.find((row) => row.key === key);
    const { run } = this.at;
    if (!step)
      throw new HatcheryError(
        'not-found',
        `Unable to skip step ${key}: run ${run.id} has none of this name`,
        {
          hint: `Its steps: ${this.at.steps.map((row) => row.key).join(', ')}`,
        },
      );
    const refuse = (why: string, hint: string): HatcheryError =>
      new HatcheryError('not-applicable', `Unable to skip step ${key}: ${why}`, { hint });
    const look = `Look at it: hatchery run show ${run.id}`;
    if (run.wanted === 'gone')
      throw refuse(
        'its run is being undone, where nothing is skipped',
        `Let go of what cannot be removed instead: hatchery run release ${run.id} EFFECT --reason TEXT`,
      );
    if (step.state !== 'parked') throw refuse(`it is ${step.state}, and only a parked step is skipped`, look);
    const definition = this.registry.steps.get(step.uses);
    if (definition?.version !== step.version)
      throw refuse(`this build does not know ${step.uses} version ${step.version}`, look);
    const goOn = `Mend its cause, then: hatchery run retry ${run.id}`;
    if (definition.unskippable !== undefined) throw refuse(definition.unskippable, goOn);
    const users = this.at.plan.steps.filter((one) => outputsUsedBy(one).includes(key)).map((one) => one.key);
    const waiting = users.filter((user) => !this.isPassed(user));
    if (waiting.length > 0)
      throw refuse(
        `${waiting.join(' and ')} ${waiting.length === 1 ? 'needs' : 'need'} what it finds out`,
        goOn,
      );
    step.error = undefined;
    this.toStep(step, 'skipped');
    if (!this.at.steps.some((row) => row.state === 'parked')) {
      this.toRunIfNot('running');
      this.toMachine('creating');
    }
    this.advance();
  }

  /**
   * A person lets go of an effect: nothing of ours will remove it, and the undo goes on without it.
   * Errors: `not-found`, `not-applicable` with the reason.
   */
  releaseEffect(effectId: string, person: { by: string; why: string }): void {
    const { effect, step } = this.judgeable(effectId, 'release');
    const { run } = this.at;
    if (run.wanted === 'done' && run.state !== 'done')
      throw new HatcheryError(
        'not-applicable',
        `Unable to release ${effect.kind} ${effect.key}: its run still makes the machine of it`,
        { hint: `Stop that first: hatchery run cancel ${run.id}` },
      );
    this.letGo.add(effectId);
    this.changes.judged.push({ effectId, as: 'let-go', ...person });
    if (step.state === 'undoing' || step.state === 'undo-parked') this.undoRest(step);
    if (run.wanted === 'gone' && !isRunOver(run.state)) this.advance();
  }

  private undoRest(step: StepRow): void {
    if (this.effectsOf(step).length > 0) {
      if (step.state === 'undo-parked') this.undoAgain(step);
      return;
    }
    step.dueAtMs = undefined;
    step.slots = undefined;
    step.error = undefined;
    this.changes.freed.push(step.id);
    this.toStep(step, 'undone');
  }

  /**
   * A person says that what an effect names is there and ours, after it was read: from now on it counts as made.
   * Errors: `not-found`, `not-applicable` with the reason.
   */
  adoptEffect(effectId: string, facts: MachineFacts, person: { by: string; why: string }): void {
    this.judgeable(effectId, 'adopt');
    this.learn(facts);
    this.changes.judged.push({ effectId, as: 'there', ...person });
  }

  private judgeable(effectId: string, verb: 'adopt' | 'release'): { effect: EffectRow; step: StepRow } {
    const { run, effects } = this.at;
    const effect = effects.find(({ id }) => id === effectId);
    if (!effect)
      throw new HatcheryError(
        'not-found',
        `Unable to ${verb} effect ${effectId}: run ${run.id} holds no such thing outside`,
        { hint: `What it holds: hatchery run show ${run.id}` },
      );
    const step = this.step(effect.stepId);
    if (step.workerId !== undefined)
      throw new HatcheryError(
        'not-applicable',
        `Unable to ${verb} ${effect.kind} ${effect.key}: a worker is at it right now`,
        { hint: `Wait for the end of its attempt: hatchery run show ${run.id}` },
      );
    return { effect, step };
  }

  /** The undo of one step is complete. */
  undone(held: HeldStep): void {
    const step = this.release(held, 'done');
    this.toStep(step, 'undone');
    // Its effects, which say what it held, are no longer among the live ones.
    this.changes.freed.push(step.id);
    this.survived();
    this.advance();
  }

  /** A slot may have come free, or somebody waits for one. */
  get isForDispatcher(): boolean {
    const { freed, steps } = this.changes;
    return (
      freed.length > 0 ||
      this.at.steps.some(
        (step) => steps.has(step.id) && step.slots !== undefined && step.dueAtMs !== undefined,
      )
    );
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
      this.toRunIfNot('parked');
  }

  private enter(step: StepRow, compiled: CompiledStep): void {
    const scope = this.scope();
    if (compiled.if !== undefined && !isTruthy(evaluate(compiled.if, scope))) {
      this.toStep(step, 'skipped');
      return;
    }
    step.input = inputOf(compiled, scope);
    this.toStep(step, 'ready');
    step.slots = this.slotsOf(step);
    this.makeDue(step, 0);
  }

  private scope(): Scope {
    return {
      inputs: this.at.run.inputs,
      steps: Object.fromEntries(this.at.steps.map((row) => [row.key, row.output ?? null])),
    };
  }

  private advanceUndo(): void {
    this.dropForward();
    const { steps } = this.at;
    if (steps.some((step) => step.state === 'running' || step.state === 'undoing')) return;
    if (steps.some((step) => step.state === 'undo-parked')) return this.toRunIfNot('parked');
    const newest = this.effects.toSorted((a, b) => b.seq - a.seq)[0];
    if (newest !== undefined) return this.undoAgain(this.step(newest.stepId));
    const endsAs = this.at.run.undoEndsAs ?? 'cancelled';
    this.toRunIfNot(endsAs);
    this.toMachine(
      endsAs === 'failed' ? 'failed' : 'deleted',
      endsAs === 'failed' ? this.at.run.error : undefined,
    );
    this.changes.released = true;
  }

  /** What has not begun never will, and what is left of the rest is its undo: nobody waits for their slots. */
  private dropForward(): void {
    for (const step of this.at.steps) {
      if (step.state !== 'pending' && step.state !== 'ready' && step.state !== 'parked') continue;
      // What a last request may still do outside is followed by the undo of what the step made, and by nobody else.
      const isUndone = this.effectsOf(step).length > 0;
      if (!isUndone || !this.isUnsure(step) || step.groupKey !== undefined) this.free([step]);
      step.dueAtMs = undefined;
      step.slots = undefined;
      leaveGroup(step);
      if (isUndone) this.dirty(step);
      else this.toStep(step, 'skipped');
    }
  }

  private undoAgain(step: StepRow): void {
    this.toRunIfNot('undoing');
    this.toMachine('deleting');
    step.tries = 0;
    step.firstClaimedAtMs = undefined;
    // A slot that a request of the step itself may still need stays its own, and is not asked for a second time.
    const isGrouped = this.registry.steps.get(step.uses)?.coalesce !== undefined;
    const kept = this.isUnsure(step) && !isGrouped ? (this.slotsOf(step) ?? []) : [];
    if (kept.length === 0) this.free([step]);
    this.toStep(step, 'undoing');
    const wanted = (this.slotsOf(step) ?? []).filter((slot) => !kept.includes(slot));
    step.slots = wanted.length === 0 ? undefined : wanted;
    this.makeDue(step, this.settleWait(step));
  }

  /** A request that may still be on its way has to arrive before "nothing is there" can be believed. */
  private settleWait(step: StepRow): number {
    const isOpen = this.effectsOf(step).some((effect) => effect.state === 'intended');
    return isOpen ? Math.max(0, this.unsureUntilMs(step) - this.at.nowMs) : 0;
  }

  private isUnsure(step: StepRow): boolean {
    return this.unsureUntilMs(step) > this.at.nowMs;
  }

  private unsureUntilMs(step: StepRow): number {
    if (this.unsureNow.has(step.id)) return this.at.nowMs + this.pace.settleMs;
    const ends = this.at.attemptEnds
      .filter((end) => end.stepId === step.id && mayStillArrive(end.outcome, end.code))
      .map((end) => end.endedAtMs);
    return Math.max(0, ...ends) + this.pace.settleMs;
  }

  /** A person has to look at it; meanwhile others may have its slots. */
  private parkStep(step: StepRow, cause: ErrorRecord): void {
    const isUndo = step.state === 'undoing';
    const error = forPeople(cause, this.at, step);
    step.dueAtMs = undefined;
    step.slots = undefined;
    this.toStep(step, isUndo ? 'undo-parked' : 'parked', error);
    this.free(isUndo ? this.at.steps : [step]);
    if (isUndo || this.at.run.wanted === 'done') this.toMachine('parked', error);
  }

  private isPassed(key: string): boolean {
    const { state } = this.byKey(key);
    return (
      state === 'done' ||
      state === 'skipped' ||
      (state === 'failed' && this.compiled(key).onFailure === 'continue')
    );
  }

  private isKnown(step: StepRow): boolean {
    if (step.state !== 'undoing') return this.registry.steps.get(step.uses)?.version === step.version;
    return this.effectsOf(step).every((effect) => this.definitionOf(effect) !== undefined);
  }

  private effectsOf(step: StepRow): LoadedRun['effects'] {
    return this.effects.filter((effect) => effect.stepId === step.id);
  }

  private get effects(): LoadedRun['effects'] {
    return this.at.effects.filter(({ id }) => !this.letGo.has(id));
  }

  private definitionOf(effect: LoadedRun['effects'][number]): AnyEffect | undefined {
    return this.registry.effects.get(`${effect.kind}@${effect.version}`);
  }

  /** Slots of the next attempt, to act or to undo. */
  private slotsOf(step: StepRow): readonly string[] | undefined {
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
  private retryOf(step: StepRow): RetryGaps {
    const compiled = this.compiled(step.key);
    if (step.state !== 'undoing') return compiled.retry;
    const newest = this.effectsOf(step).toSorted((a, b) => b.seq - a.seq)[0];
    const policy = newest && this.definitionOf(newest)?.retry;
    if (!policy) return compiled.retry;
    const { attempts, first, max } = policy;
    return { attempts, firstMs: durationMs(first), maxMs: durationMs(max) };
  }

  /** After an outcome that is known to have made nothing, others may have the slot while this step backs off. */
  private letSlotsGo(step: StepRow): void {
    this.free([step]);
    step.slots = this.slotsOf(step);
  }

  /** Another attempt; of a step that is no longer wanted only its undo is left. The slots of a group are its leader's: nobody keeps them. */
  private again(step: StepRow, afterMs: number): void {
    if (step.groupKey !== undefined) this.letSlotsGo(step);
    if (step.state === 'running') this.toStep(step, 'ready');
    if (step.state === 'undoing' || this.at.run.wanted === 'done') this.makeDue(step, afterMs);
  }

  private makeDue(step: StepRow, afterMs: number): void {
    step.dueAtMs = this.at.nowMs + afterMs;
    step.groupKey = this.groupOf(step);
    step.isGathering = step.groupKey !== undefined;
    if (step.isGathering) step.slots ??= [];
    this.dirty(step);
    if (step.slots !== undefined) return;
    step.dispatch += 1;
    this.changes.dispatches.push({ stepId: step.id, number: step.dispatch, dueAtMs: step.dueAtMs });
  }

  /** What the next attempt is made together with; undefined = nothing. */
  private groupOf(step: StepRow): string | undefined {
    if (this.at.run.deaths >= DEATHS_BEFORE_ALONE) return undefined;
    if (step.state !== 'undoing') return actGroup(this.registry.steps.get(step.uses), step);
    const [effect, ...more] = this.effectsOf(step);
    if (effect === undefined || effect.shared || more.length > 0) return undefined;
    return undoGroup(this.definitionOf(effect), effect.payload);
  }

  /** Lets go of the slots that these steps may hold. */
  private free(steps: readonly StepRow[]): void {
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

  private release(
    held: HeldStep,
    outcome: RunChanges['ended'][number]['outcome'],
    error?: ErrorRecord,
  ): StepRow {
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

  private learn(facts: MachineFacts): void {
    const { machine } = this.at;
    if (facts.node !== undefined) machine.node = facts.node;
    if (facts.address !== undefined) machine.address = facts.address;
    if (facts.link !== undefined) machine.link = facts.link;
    if (facts.incarnation !== undefined) machine.incarnation = facts.incarnation;
    if (facts.secretRef !== undefined) machine.secretRef = facts.secretRef;
    if (Object.keys(facts).length > 0) this.changes.machine = true;
  }

  private toStep(step: StepRow, state: StepState, error?: ErrorRecord): void {
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

function leaveGroup(step: StepRow): void {
  step.groupKey = undefined;
  step.isGathering = false;
}

/** What a step is given; the same for as long as the outputs that it needs stay. */
const inputOf = (compiled: CompiledStep, scope: Scope): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(compiled.with).map(([name, template]) => [name, render(template, scope)]),
  );

const unlawful = (what: string, from: string, to: string): HatcheryError =>
  new HatcheryError('internal', `Unable to change ${what}: ${from} does not lead to ${to}`);
