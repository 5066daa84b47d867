import { HatcheryError, errorRecord } from '../core/errors.js';
import { type AnyStep, StepWait, type EffectIntent, type StepRun } from '../plan/step.js';
import { LockLost } from '../ports/locks.js';
import type { HeldStep, LoadedRun, RunStore } from '../ports/run-store.js';
import { StoreUnavailable } from '../ports/store-unavailable.js';
import { changeRun, type EngineParts } from './engine.js';
import { LeaseOver, type WorkerLease } from './lease.js';
import { causeOf } from './for-people.js';
import { GroupBroken } from './meeting.js';
import { OnceNotes } from './once.js';
import { stopFor } from './cluster-watch.js';
import type { ClaimRefusal, Failure, RunModel } from './run-model.js';
import { guardedCall, machineOf, type Attempt, type Claimed, type GoOn } from './claimed.js';
import { StaleHolder } from './stale-holder.js';
import { undoEffects } from './undo.js';
import { TimedOut, underSignal } from './under-signal.js';

/**
 * One job of the queue: claims its step under a new epoch, makes the attempt, and goes on with the steps of the run that the outcomes make due,
 * as far as `goOn` lets it. Gives why the first claim was refused, or nothing. Never throws for what a step did; throws when Postgres does.
 * `together`: goes on with a step that leads a group; without it every step goes by itself.
 */
export async function runAttempts(
  parts: EngineParts,
  lease: WorkerLease,
  stepId: string,
  goOn: GoOn,
  together?: (leader: Claimed) => Promise<void>,
): Promise<ClaimRefusal | undefined> {
  const claimed = await claimStep(parts, lease, stepId, { isAlone: goOn.isAlone });
  if (claimed === undefined || 'refused' in claimed) return claimed?.refused;
  if (together && claimed.step.groupKey !== undefined) {
    await together(claimed);
    return undefined;
  }
  const first: Attempt = { ...newAttempt(parts, lease, claimed), goOn };
  let next = await finishAttempt(first);
  while (next !== undefined) {
    const { stepId: taken } = next.held;
    try {
      next = await finishAttempt({ ...newAttempt(parts, lease, next), term: first.term, goOn });
    } finally {
      goOn.hands.drop(taken);
    }
  }
  return undefined;
}

export function newAttempt(parts: EngineParts, lease: WorkerLease, claimed: Claimed): Attempt {
  return {
    parts,
    lease,
    claimed,
    term: lease.signal,
    inHand: claimed.loaded,
    facts: {},
    warnings: [],
    seat: undefined,
    goOn: undefined,
  };
}

/** From the claim to the outcome. Gives the step to go on with, which is claimed and in hand. */
export async function finishAttempt(attempt: Attempt): Promise<Claimed | undefined> {
  const { claimed } = attempt;
  try {
    if (claimed.kind === 'act') return await actOnce(attempt);
    await undoEffects(attempt);
    return await commit(attempt, (model) => model.undone(claimed.held), { goOn: attempt.goOn });
  } catch (error) {
    await settle(attempt, error);
    return undefined;
  }
}

/**
 * Claims a step under a new epoch; `undefined` = there is no such step. What goes forward by itself is claimed as it is seen, with others in one
 * statement; the rest, and what is refused that way, under the run's lock.
 */
export async function claimStep(
  parts: EngineParts,
  lease: WorkerLease,
  stepId: string,
  as: { isAlone: boolean; groupKey?: string },
): Promise<Claimed | { refused: ClaimRefusal } | undefined> {
  const claim = (model: RunModel, loaded: LoadedRun): Claimed | { refused: ClaimRefusal } => {
    if (!lease.isHeld || lease.signal.aborted) return { refused: 'not-due' };
    const answer = model.claim(stepId, { id: lease.workerId, ...as });
    return 'refused' in answer ? answer : describeClaim(parts, loaded, answer);
  };
  const seen = as.groupKey === undefined ? await parts.store.look(stepId) : undefined;
  if (seen && seen.run.wanted === 'done' && isByItself(seen, stepId)) {
    const claimed = await changeRun(parts, { stepId }, claim, seen);
    if (claimed && !('refused' in claimed)) return claimed;
  }
  const answer = await changeRun(parts, { stepId }, claim);
  if (answer && 'refused' in answer && answer.refused === 'unknown-version') {
    await parts.store.passOn(stepId);
    parts.wakeUps.notify('passed-on');
  }
  return answer;
}

const isByItself = (loaded: LoadedRun, stepId: string): boolean =>
  loaded.steps.some((step) => step.id === stepId && step.groupKey === undefined);

function describeClaim(parts: EngineParts, loaded: LoadedRun, held: HeldStep): Claimed {
  const step = loaded.steps.find((row) => row.id === held.stepId)!;
  const { machine } = loaded;
  return {
    held,
    kind: step.state === 'undoing' ? 'undo' : 'act',
    step,
    compiled: loaded.plan.steps.find((one) => one.key === step.key)!,
    runId: loaded.run.id,
    cluster: machine.cluster,
    machine: machineOf(parts.deployment, loaded),
    effects: loaded.effects.filter((effect) => effect.stepId === held.stepId),
    nowMs: loaded.nowMs,
    isDoubtful: held.epoch === 1 && loaded.parkedUses.has(step.uses),
    loaded,
  };
}

async function actOnce(attempt: Attempt): Promise<Claimed | undefined> {
  const { parts, claimed, term, facts } = attempt;
  const { step, compiled, held } = claimed;
  const definition = parts.steps.get(step.uses)!;
  const input = readInput(definition, claimed);
  const at = { step: step.key, runId: claimed.runId };
  if (claimed.isDoubtful) await needNoRefusal(attempt);
  const names = definition.locks(input, claimed.machine);
  const outcome = await parts.locks.with(
    names,
    { why: `${step.key} of run ${claimed.runId}`, waitMs: parts.times.lockWaitMs, signal: term },
    async (locked) => {
      await parts.checkpoints.reach('K1', at);
      const intents = definition.effects(input, claimed.machine);
      const intended =
        intents.length === 0 ? { stale: false, hadEarlier: held.epoch > 1 } : await intend(attempt, intents);
      if (intended.stale) throw new StaleHolder();
      if (intended.busy !== undefined)
        throw new HatcheryError(
          'lock-timeout',
          `Unable to make ${intended.busy}: somebody else still holds or removes it`,
          { retry: 'later' },
        );
      await parts.checkpoints.reach('K2', at);
      const result = await underSignal([term, locked], compiled.timeoutMs, async (signal, moved) => {
        const run = stepRun(attempt, signal, intended.hadEarlier, moved);
        if (attempt.seat) return attempt.seat.join({ input, run });
        const found: unknown = intended.hadEarlier
          ? await definition.find?.(input, parts.ports, run)
          : undefined;
        return found ?? ((await definition.act(input, parts.ports, run)) as unknown);
      });
      await parts.checkpoints.reach('K6', at);
      return result;
    },
  );
  if (outcome instanceof StepWait) {
    const waitedMs = claimed.nowMs - (step.firstClaimedAtMs ?? claimed.nowMs);
    if (compiled.deadlineMs !== undefined && waitedMs >= compiled.deadlineMs)
      throw definition.expired?.(input) ?? waitedTooLong(claimed, outcome.why);
    return commit(attempt, (model) => model.wait(held, outcome.afterMs, facts, claimed.machine.phoneHome));
  }
  const output: unknown = definition.output.parse(outcome);
  await parts.checkpoints.reach('K9', at);
  const next = await commit(attempt, (model) => model.done(held, output, facts), {
    goOn: attempt.goOn,
    inHand: attempt.inHand,
  });
  await parts.checkpoints.reach('K7', at);
  return next;
}

/** Parked, and not undone: the machine is as it was accepted, and another build can make it. */
function readInput(definition: AnyStep, { step, runId }: Claimed): unknown {
  const read = definition.input.safeParse(step.input);
  if (read.success) return read.data;
  throw new HatcheryError(
    'internal',
    `Unable to begin step ${step.key}: this build cannot read its input (${read.error.issues[0]?.path.join('.')}: ${read.error.issues[0]?.message})`,
    {
      retry: 'after-fix',
      hint: `Bring the workers to the build that accepted the machine, then: hatchery run retry ${runId}`,
      cause: read.error,
    },
  );
}

async function intend(attempt: Attempt, intents: readonly EffectIntent[]): ReturnType<RunStore['intend']> {
  attempt.inHand = undefined;
  return attempt.parts.store.intend(attempt.claimed.held, intents);
}

/** What the cluster refused to one for good it would refuse to a whole class: nothing is sent before a person retried the first. */
async function needNoRefusal({ parts, claimed: { held, step } }: Attempt): Promise<void> {
  const refused = await parts.store.refusedBefore(held);
  if (refused === undefined) return;
  const { code, message, hint, facts } = causeOf(refused);
  throw new HatcheryError(code, `Unable to begin step ${step.key}, for another machine failed: ${message}`, {
    retry: 'after-fix',
    ...(hint !== undefined && { hint }),
    ...(facts !== undefined && { facts }),
  });
}

function stepRun(
  attempt: Attempt,
  signal: AbortSignal,
  hasEarlierIntent: boolean,
  moved: () => void,
): StepRun {
  const { parts, claimed, facts } = attempt;
  const { step, held, machine, runId } = claimed;
  const { deployment, machine: machineId, vmid } = machine.identity;
  const call = guardedCall(attempt, signal);
  const notes = new OnceNotes(
    {
      store: parts.store,
      claimedAtMs: claimed.nowMs,
      checkpoints: parts.checkpoints,
      held,
      call,
      step: step.key,
      runId,
      unknownAfterMs: 5_000 * parts.ports.remoteTimeScale,
    },
    step.remote,
  );
  return {
    runId,
    machine,
    stepKey: step.key,
    attempt: held.epoch,
    call,
    hasEarlierIntent,
    mark: () => ({ deployment, machine: machineId, vmid, run: runId, step: step.key, attempt: held.epoch }),
    once: (key, hooks) => notes.once(key, hooks),
    forget: (key) => notes.forget(key),
    replaceVmid: async (used, why) => {
      attempt.inHand = undefined;
      const next = await parts.store.replaceVmid(held, used, why);
      if (next === undefined) throw new StaleHolder();
      return next;
    },
    reportIntruder: (intruder) => stopFor(parts, claimed.cluster, parts.rangeOf(claimed.cluster), [intruder]),
    claimAddress: async (address) => {
      attempt.inHand = undefined;
      const claim = await parts.store.claimAddress(held, address);
      if (claim.stale) throw new StaleHolder();
      return claim.holder;
    },
    waited: (slot, wait) => parts.slotLimits.noteWait(held, slot, wait),
    progress: progressWriter(parts, held, moved),
    learn: (more) => Object.assign(facts, more),
  };
}

/** Writes at most one percentage at a time and skips those in between. What goes forward is not timed out: `moved`. */
function progressWriter(parts: EngineParts, held: HeldStep, moved: () => void): (percent: number) => void {
  let furthest = 0;
  let next: number | undefined;
  let isWriting = false;
  const write = async (): Promise<void> => {
    isWriting = true;
    while (next !== undefined) {
      const percent = next;
      next = undefined;
      await parts.store.progress(held, percent);
      parts.wakeUps.notify('events');
    }
    isWriting = false;
  };
  return (percent) => {
    if (percent > furthest) moved();
    furthest = Math.max(furthest, percent);
    next = Math.max(0, Math.min(100, Math.round(percent)));
    if (!isWriting)
      write().catch((error: unknown) => {
        isWriting = false;
        parts.log.debug({ err: error }, 'a progress note was not written');
      });
  };
}

const waitedTooLong = ({ step, compiled, runId }: Claimed, why: string): HatcheryError =>
  new HatcheryError(
    'step-timeout',
    `Unable to finish step ${step.key}: it waited longer than ${(compiled.deadlineMs ?? 0) / 1000} s (${why})`,
    { retry: 'after-fix', hint: `Look at what it waits for, then: hatchery run retry ${runId}` },
  );

/**
 * Writes the outcome under the attempt's epoch. While Postgres is away it is kept, for as long as it takes: nobody else may claim the step
 * before our lease is over, and from then on it is refused. Only a worker that has to stop leaves it to the sweeper.
 * With `goOn` the worker claims in the same transaction what the outcome makes due, if it may; gives that. With `inHand` the run is not read again,
 * unless it changed.
 */
async function commit(
  attempt: Attempt,
  work: (model: RunModel) => void,
  { goOn, inHand }: { goOn?: GoOn | undefined; inHand?: LoadedRun | undefined } = {},
): Promise<Claimed | undefined> {
  const { parts, lease, claimed, warnings } = attempt;
  const { held } = claimed;
  const about = { run: claimed.runId, step: claimed.step.key, epoch: held.epoch };
  let taken: string | undefined;
  const letGo = (): void => {
    if (taken !== undefined) goOn?.hands.drop(taken);
    taken = undefined;
  };
  for (;;) {
    try {
      const written = await changeRun(
        parts,
        { stepId: held.stepId },
        (model, loaded) => {
          // The transaction may begin again.
          letGo();
          if (!model.isHeld(held)) return undefined;
          work(model);
          model.warned(held, warnings);
          if (!goOn?.may() || !isSameTerm(attempt)) return {};
          const next = model.goOn(held.workerId);
          if (next === undefined) return {};
          // From the commit on the heartbeat finds it as ours.
          goOn.hands.take((taken = next.stepId));
          return { next: describeClaim(parts, loaded, next) };
        },
        inHand,
      );
      if (written === undefined) parts.log.warn(about, 'a stale result was refused');
      return written?.next;
    } catch (error) {
      letGo();
      if (!(error instanceof StoreUnavailable) || (lease.isEnding && !lease.isHeld)) throw error;
      parts.log.warn({ ...about, err: error }, 'an outcome is not written yet');
    }
    await parts.clock.sleep(parts.times.heartbeatMs);
  }
}

/** What begins under the term of this attempt ends with it too. */
const isSameTerm = ({ lease, claimed, term }: Attempt): boolean =>
  lease.isHeld && !term.aborted && lease.workerId === claimed.held.workerId;

/** Turns what was thrown into the step's fate. */
async function settle(attempt: Attempt, error: unknown): Promise<void> {
  const { parts, claimed, term, facts } = attempt;
  const { held } = claimed;
  const about = {
    run: claimed.runId,
    step: claimed.step.key,
    machine: claimed.machine.machineId,
    attempt: held.epoch,
  };
  if (error instanceof StaleHolder) {
    parts.log.warn(about, 'a stale attempt was given up');
    return;
  }
  if (term.aborted || isInterruption(error)) {
    parts.log.info({ ...about, err: error }, 'an attempt was interrupted');
    await commit(attempt, (model) => model.handOver(held));
    return;
  }
  const failure = failureOf(error, claimed);
  parts.log[failure.retry === 'later' ? 'warn' : 'error'](
    { ...about, code: failure.error.code, err: error },
    `attempt failed: ${failure.error.message}`,
  );
  await commit(attempt, (model) => model.failed(held, failure, facts));
  void parts.breaker.suspect(claimed.cluster, failure.error);
}

/** Our own ground gave way (lease, lock, Postgres): that says nothing about the step and is not one of its tries. */
const isInterruption = (error: unknown): boolean =>
  error instanceof LeaseOver ||
  error instanceof LockLost ||
  error instanceof GroupBroken ||
  error instanceof StoreUnavailable;

function failureOf(error: unknown, { step }: Claimed): Failure {
  if (error instanceof TimedOut)
    return {
      error: { code: 'step-timeout', message: `Unable to finish step ${step.key}: ${error.message}` },
      retry: 'later',
      afterMs: undefined,
    };
  if (error instanceof HatcheryError)
    return { error: errorRecord(error), retry: error.retry, afterMs: error.afterMs };
  return { error: errorRecord(error), retry: 'never', afterMs: undefined };
}
