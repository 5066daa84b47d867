import type { ErrorRecord } from '../core/errors.js';
import { isRunOver } from '../core/states.js';
import type { MachineFacts, MachineSnapshot, Registry } from '../plan/step.js';
import type { AuditLine, HeldStep, LoadedRun, RunChanges, StepRow } from '../ports/run-store.js';
import { backOff, noSoonerThan, passesByItself, waitGap, type Pace } from './pace.js';
import { advance } from './run-advance.js';
import { adoptEffect, releaseEffect, retry, skip, wantGone, type Person } from './run-deeds.js';
import { RunRows } from './run-rows.js';

/** Deaths of workers that had nothing but this run in hand, after which it is parked. */
const DEATHS_BEFORE_PARKED = 3;

export type ClaimRefusal = 'not-due' | 'not-admitted' | 'unknown-version' | 'alone' | 'cluster-stopped';

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
  private readonly rows: RunRows;

  constructor(
    private readonly at: LoadedRun,
    registry: Registry,
    pace: Pace,
  ) {
    this.rows = new RunRows(at, registry, pace);
  }

  get changes(): RunChanges {
    return this.rows.changes;
  }

  /** A worker takes a due step under a new epoch; one that gathers only together with the group whose key is given. */
  claim(
    stepId: string,
    worker: { id: string; isAlone: boolean; groupKey?: string },
  ): HeldStep | { refused: ClaimRefusal } {
    const step = this.rows.step(stepId);
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
    if (!this.rows.isKnown(step)) return { refused: 'unknown-version' };
    if (this.rows.goesAlone && !worker.isAlone) return { refused: 'alone' };
    step.epoch += 1;
    step.workerId = worker.id;
    step.slots = undefined;
    step.isGathering = false;
    step.claimedAtMs = this.at.nowMs;
    step.dueAtMs = undefined;
    step.firstClaimedAtMs ??= this.at.nowMs;
    if (!isUndo) this.rows.toStep(step, 'running');
    this.rows.dirty(step);
    if (this.at.run.state === 'queued') this.rows.toRun('running');
    if (this.at.machine.state === 'reserved') this.rows.toMachine('creating');
    return { stepId, epoch: step.epoch, workerId: worker.id };
  }

  /**
   * The worker that has just ended a step goes on with the next one of the run: what became due in this transaction and waits for nobody (what needs
   * a slot or gathers is not dispatched). Of several it takes the one with the longest way to the end; the others are dispatched.
   */
  goOn(workerId: string): HeldStep | undefined {
    const { dispatches, events } = this.rows.changes;
    const due = dispatches
      .filter((one) => one.dueAtMs <= this.at.nowMs)
      .map((one) => this.rows.step(one.stepId))
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
    const step = this.rows.release(held, 'done');
    this.rows.toStep(step, 'done');
    step.output = output;
    step.error = undefined;
    step.percent = 100;
    this.rows.changes.confirmed.push(step.id);
    this.rows.free([step]);
    this.rows.learn(facts);
    this.survived();
    advance(this.rows);
  }

  /**
   * The step gives its worker back and wants another attempt later; its slots stay, for its remote work may go on. A guest that phoned home
   * after the attempt had looked (`saw`) makes it due at once.
   */
  wait(held: HeldStep, afterMs: number, facts: MachineFacts, saw: MachineSnapshot['phoneHome']): void {
    const step = this.rows.release(held, 'waiting');
    this.rows.learn(facts);
    this.rows.again(step, this.at.machine.phoneHome?.address === saw?.address ? afterMs : 0);
    advance(this.rows);
  }

  /** The guest phoned home. False: its token was used or replaced, or its run is over. A step that waits for it is due at once. */
  toldAddress(hash: string, address: string): boolean {
    const { run, machine } = this.at;
    if (machine.phoneHome?.hash !== hash || machine.phoneHome.address !== undefined) return false;
    if (run.wanted === 'gone' || isRunOver(run.state)) return false;
    machine.phoneHome = { hash, address };
    this.rows.changes.machine = true;
    for (const step of this.at.steps)
      if (
        step.state === 'ready' &&
        step.workerId === undefined &&
        this.rows.registry.steps.get(step.uses)?.wakesOnPhoneHome
      )
        this.rows.makeDue(step, 0);
    return true;
  }

  failed(held: HeldStep, failure: Failure, facts: MachineFacts): void {
    const step = this.rows.step(held.stepId);
    const retry = this.rows.retryOf(step);
    this.rows.learn(facts);
    step.error = failure.error;
    if (failure.retry === 'later' && passesByItself(failure.error)) {
      this.waitForOthers(held, step, failure);
      advance(this.rows);
      return;
    }
    step.tries += 1;
    if (failure.retry === 'later' && step.tries < retry.attempts) {
      this.rows.release(held, 'retry', failure.error);
      if (!this.rows.isUnsure(step)) this.rows.letSlotsGo(step);
      const afterMs =
        failure.afterMs === undefined
          ? backOff(retry, step.tries, this.rows.pace)
          : noSoonerThan(failure.afterMs, this.rows.pace);
      this.rows.again(step, Math.max(afterMs, this.rows.pace.place()));
    } else this.giveUp(held, step, failure);
    advance(this.rows);
  }

  /** Not one of its tries: it is asked for again until the limit, then a person has to look. */
  private waitForOthers(held: HeldStep, step: StepRow, failure: Failure): void {
    const waitedMs = this.at.nowMs - (step.firstClaimedAtMs ?? this.at.nowMs);
    if (waitedMs >= this.rows.pace.waitLimitMs) {
      this.giveUp(held, step, { ...failure, retry: 'after-fix' });
      return;
    }
    this.rows.release(held, 'retry', failure.error);
    if (!this.rows.isUnsure(step)) this.rows.letSlotsGo(step);
    this.rows.again(
      step,
      Math.max(waitGap(this.rows.retryOf(step), waitedMs, this.rows.pace), this.rows.pace.place()),
    );
  }

  private giveUp(held: HeldStep, step: StepRow, failure: Failure): void {
    const { onFailure } = this.rows.compiled(step.key);
    if (step.state === 'undoing' || failure.retry === 'after-fix' || onFailure === 'park') {
      this.rows.release(held, 'parked', failure.error);
      this.rows.parkStep(step, failure.error);
      return;
    }
    this.rows.release(held, 'failed', failure.error);
    // What its last request still does outside is followed by its undo, which lets the slot go.
    const isUndoneNext =
      this.rows.effectsOf(step).length > 0 && (onFailure === 'undo' || this.at.run.wanted === 'gone');
    if (!this.rows.isUnsure(step) || !isUndoneNext) this.rows.free([step]);
    this.rows.toStep(step, 'failed', failure.error);
    if (onFailure === 'undo' && this.at.run.wanted === 'done') {
      this.at.run.error = failure.error;
      this.at.run.undoEndsAs = 'failed';
      this.at.run.wanted = 'gone';
      this.rows.changes.run = true;
    }
  }

  /** What the attempt that has just ended said besides. */
  warned(held: HeldStep, warnings: readonly string[]): void {
    const ended = this.rows.changes.ended.find(
      (one) => one.stepId === held.stepId && one.epoch === held.epoch,
    );
    if (ended && warnings.length > 0) ended.warnings = warnings;
  }

  /** The worker stops in good order: the step is due again at once, nobody's fault. */
  handOver(held: HeldStep): void {
    this.rows.again(this.rows.release(held, 'handed-over'), 0);
    advance(this.rows);
  }

  /**
   * The worker died: its steps are due again. Slots stay: the remote tasks may still run.
   * `isOneOfMany`: others died meanwhile, who had nothing of this run. Where workers die anyway, a death says little about the run, and one while alone nothing.
   */
  lost(workerId: string, { isOneOfMany = false } = {}): void {
    const steps = this.at.steps.filter((step) => step.workerId === workerId);
    if (steps.length === 0) return;
    const { run } = this.at;
    if (!this.rows.goesAlone) run[isOneOfMany ? 'deathsAmong' : 'deaths'] += 1;
    else if (!isOneOfMany) run.deathsAlone += 1;
    this.rows.changes.run = true;
    const isPoison = run.deathsAlone >= DEATHS_BEFORE_PARKED;
    for (const step of steps) {
      this.rows.release({ stepId: step.id, epoch: step.epoch, workerId }, 'lost');
      if (isPoison && (step.state === 'undoing' || run.wanted === 'done'))
        this.rows.parkStep(step, {
          code: 'workers-died',
          message: `Unable to finish step ${step.key}: ${run.deaths + run.deathsAmong + run.deathsAlone} workers died one after the other while they did it, the last ${run.deathsAlone} with nothing else in hand`,
          hint: `Look for how they ended (their logs, memory, the kernel’s log), then: hatchery run retry ${run.id}`,
          facts: { lastWorker: workerId },
        });
      else this.rows.again(step, 0);
    }
    if (this.rows.goesAlone) this.leaveGroups();
    advance(this.rows);
  }

  /** A worker that lives does not know that it holds the step (the answer to its claim was lost): it is due again, and nobody died. */
  leftBehind(held: HeldStep): void {
    this.rows.again(this.rows.release(held, 'lost'), 0);
    advance(this.rows);
  }

  /** Only deaths in a row say something about a run: one that kills its workers never brings a step to its end in between. */
  private survived(): void {
    const { run } = this.at;
    if (run.deaths === 0 && run.deathsAmong === 0) return;
    run.deaths = 0;
    run.deathsAmong = 0;
    run.deathsAlone = 0;
    this.rows.changes.run = true;
  }

  /** From now on the run goes by itself: whoever kills workers must not do it to a whole group. */
  private leaveGroups(): void {
    for (const step of this.at.steps)
      if (step.isGathering && step.dueAtMs !== undefined)
        this.rows.makeDue(step, Math.max(0, step.dueAtMs - this.at.nowMs));
  }

  /** No live worker knows this step's version, or how to undo what it made: a person has to bring one back. */
  parkUnknown(stepId: string): void {
    const step = this.rows.step(stepId);
    if ((step.state !== 'ready' && step.state !== 'undoing') || step.workerId !== undefined) return;
    this.rows.parkStep(step, {
      code: 'unknown-step',
      message: `Unable to ${step.state === 'undoing' ? 'undo' : 'run'} step ${step.key}: no live worker knows ${step.uses} version ${step.version}`,
      hint: `Start a worker of a build that has it, then: hatchery run retry ${this.at.run.id}`,
    });
    advance(this.rows);
  }

  /** Cancel or delete: from here no forward step becomes due, and everything made is undone. */
  wantGone(): void {
    wantGone(this.rows);
  }

  /** Something of ours was found outside after the end: the undo goes on, towards the same end. */
  reopen(): void {
    const { run } = this.at;
    if (run.state !== 'failed' && run.state !== 'cancelled') return;
    run.wanted = 'gone';
    run.undoEndsAs = run.state;
    advance(this.rows);
  }

  /** A person says "again": parked steps become due with fresh tries. Gives how many. */
  retry(): number {
    return retry(this.rows);
  }

  /** A person did it, and wants to be known for it. */
  audit(line: Omit<AuditLine, 'subject'>): void {
    this.rows.changes.audits.push({ ...line, subject: this.at.run.id });
  }

  /**
   * A person says that a parked step is not needed: what follows goes on without it. What it made stays in the ledger.
   * Errors: `not-found`, `not-applicable` with the reason.
   */
  skip(key: string): void {
    skip(this.rows, key);
  }

  /**
   * A person lets go of an effect: nothing of ours will remove it, and the undo goes on without it.
   * Errors: `not-found`, `not-applicable` with the reason.
   */
  releaseEffect(effectId: string, person: Person): void {
    releaseEffect(this.rows, effectId, person);
  }

  /**
   * A person says that what an effect names is there and ours, after it was read: from now on it counts as made.
   * Errors: `not-found`, `not-applicable` with the reason.
   */
  adoptEffect(effectId: string, facts: MachineFacts, person: Person): void {
    adoptEffect(this.rows, effectId, facts, person);
  }

  /** The undo of one step is complete. */
  undone(held: HeldStep): void {
    const step = this.rows.release(held, 'done');
    this.rows.toStep(step, 'undone');
    // Its effects, which say what it held, are no longer among the live ones.
    this.rows.changes.freed.push(step.id);
    this.survived();
    advance(this.rows);
  }

  /** A slot may have come free, or somebody waits for one. */
  get isForDispatcher(): boolean {
    const { freed, steps } = this.rows.changes;
    return (
      freed.length > 0 ||
      this.at.steps.some(
        (step) => steps.has(step.id) && step.slots !== undefined && step.dueAtMs !== undefined,
      )
    );
  }

  /** Makes due what may run next, forward or back, and closes the run when nothing is left. */
  advance(): void {
    advance(this.rows);
  }
}
