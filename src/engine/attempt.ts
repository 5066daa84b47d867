import { HatcheryError, errorRecord } from '../core/errors.js';
import { StepWait, type StepRun } from '../plan/step.js';
import { LockLost } from '../ports/locks.js';
import type { HeldStep, LoadedRun } from '../ports/run-store.js';
import { StoreUnavailable } from '../ports/store-unavailable.js';
import { changeRun, type EngineParts } from './engine.js';
import { LeaseOver, type WorkerLease } from './lease.js';
import { GroupBroken } from './meeting.js';
import { OnceNotes } from './once.js';
import { stopFor } from './cluster-watch.js';
import type { ClaimRefusal, Failure, RunModel } from './run-model.js';
import { guardedCall, type Attempt, type Claimed } from './claimed.js';
import { StaleHolder } from './stale-holder.js';
import { undoEffects } from './undo.js';
import { TimedOut, underSignal } from './under-signal.js';

/**
 * One attempt: claim under a new epoch, act or undo under locks, time-out and lease, and write the outcome under that epoch.
 * Gives why the claim was refused, or nothing. Never throws for what the step did; throws when Postgres does.
 * `together`: goes on with a step that leads a group; without it every step goes by itself.
 */
export async function runAttempt(
  parts: EngineParts,
  lease: WorkerLease,
  stepId: string,
  together?: (leader: Claimed) => Promise<void>,
): Promise<ClaimRefusal | undefined> {
  const claimed = await claimStep(parts, lease, stepId, { isAlone: together === undefined });
  if (claimed === undefined || 'refused' in claimed) return claimed?.refused;
  if (together && claimed.step.groupKey !== undefined) await together(claimed);
  else await finishAttempt(newAttempt(parts, lease, claimed));
  return undefined;
}

export function newAttempt(parts: EngineParts, lease: WorkerLease, claimed: Claimed): Attempt {
  return { parts, lease, claimed, term: lease.signal, facts: {}, warnings: [], seat: undefined };
}

/** From the claim to the outcome. */
export async function finishAttempt(attempt: Attempt): Promise<void> {
  const { claimed } = attempt;
  try {
    if (claimed.kind === 'undo') {
      await undoEffects(attempt);
      await commit(attempt, (model) => model.undone(claimed.held));
    } else await actOnce(attempt);
  } catch (error) {
    await settle(attempt, error);
  }
}

export async function claimStep(
  parts: EngineParts,
  lease: WorkerLease,
  stepId: string,
  as: { isAlone: boolean; groupKey?: string },
): Promise<Claimed | { refused: ClaimRefusal } | undefined> {
  return changeRun(parts, { stepId }, (model, loaded) => {
    if (!lease.isHeld || lease.signal.aborted) return { refused: 'not-due' as const };
    const answer = model.claim(stepId, { id: lease.workerId, ...as });
    return 'refused' in answer ? answer : describeClaim(parts, loaded, answer);
  });
}

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
    machine: {
      machineId: machine.id,
      vmid: machine.vmid,
      mac: machine.mac,
      node: machine.node,
      smbiosUuid: machine.smbiosUuid,
      identity: { deployment: parts.deployment, machine: machine.id, vmid: machine.vmid },
      phoneHome: machine.phoneHome && { address: machine.phoneHome.address },
    },
    effects: loaded.effects.filter((effect) => effect.stepId === held.stepId),
    nowMs: loaded.nowMs,
    isDoubtful: held.epoch === 1 && loaded.parkedUses.has(step.uses),
  };
}

async function actOnce(attempt: Attempt): Promise<void> {
  const { parts, claimed, term, facts } = attempt;
  const { step, compiled, held } = claimed;
  const definition = parts.steps.get(step.uses)!;
  const input: unknown = definition.input.parse(step.input);
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
        intents.length === 0
          ? { stale: false, hadEarlier: held.epoch > 1 }
          : await parts.store.intend(held, intents);
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
    await commit(attempt, (model) => model.wait(held, outcome.afterMs, facts, claimed.machine.phoneHome));
    return;
  }
  const output: unknown = definition.output.parse(outcome);
  await parts.checkpoints.reach('K9', at);
  await commit(attempt, (model) => model.done(held, output, facts));
  await parts.checkpoints.reach('K7', at);
}

/** What the cluster refused to one for good it would refuse to a whole class: nothing is sent before a person retried the first. */
async function needNoRefusal({ parts, claimed: { held, step } }: Attempt): Promise<void> {
  const refused = await parts.store.refusedBefore(held);
  if (refused === undefined) return;
  const { code, message, hint, facts } = refused;
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
    mark: () => ({ ...machine.identity, run: runId, step: step.key, attempt: held.epoch }),
    once: (key, hooks) => notes.once(key, hooks),
    forget: (key) => notes.forget(key),
    replaceVmid: async (used, why) => {
      const next = await parts.store.replaceVmid(held, used, why);
      if (next === undefined) throw new StaleHolder();
      return next;
    },
    reportIntruder: (intruder) => stopFor(parts, claimed.cluster, parts.rangeOf(claimed.cluster), [intruder]),
    claimAddress: async (address) => {
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
 */
async function commit(
  { parts, lease, claimed, warnings }: Attempt,
  work: (model: RunModel) => void,
): Promise<void> {
  const about = { run: claimed.runId, step: claimed.step.key, epoch: claimed.held.epoch };
  for (;;) {
    try {
      const isHeld = await changeRun(parts, { stepId: claimed.held.stepId }, (model) => {
        if (!model.isHeld(claimed.held)) return false;
        work(model);
        model.warned(claimed.held, warnings);
        return true;
      });
      if (isHeld !== true) parts.log.warn(about, 'a stale result was refused');
      return;
    } catch (error) {
      if (!(error instanceof StoreUnavailable) || (lease.isEnding && !lease.isHeld)) throw error;
      parts.log.warn({ ...about, err: error }, 'an outcome is not written yet');
    }
    await parts.clock.sleep(parts.times.heartbeatMs);
  }
}

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
