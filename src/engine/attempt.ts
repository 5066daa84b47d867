import { HatcheryError, errorRecord } from '../core/errors.js';
import { StepWait, type MachineFacts, type StepRun } from '../plan/step.js';
import type { HeldStep, LoadedRun } from '../ports/run-store.js';
import { changeRun, type EngineParts } from './engine.js';
import { LeaseOver, type WorkerLease } from './lease.js';
import { OnceNotes } from './once.js';
import type { ClaimRefusal, Failure } from './run-model.js';
import { guardedCall, type Claimed } from './claimed.js';
import { StaleHolder } from './stale-holder.js';
import { undoEffects } from './undo.js';

/**
 * One attempt: claim under a new epoch, act or undo under locks, time-out and lease, and write the outcome under that epoch.
 * Gives why the claim was refused, or nothing. Never throws for what the step did; throws when Postgres does.
 */
export async function runAttempt(
  parts: EngineParts,
  lease: WorkerLease,
  stepId: string,
  isAlone: boolean,
): Promise<ClaimRefusal | undefined> {
  const claimed = await claim(parts, lease, stepId, isAlone);
  if (claimed === undefined || 'refused' in claimed) return claimed?.refused;
  const term = lease.signal;
  const facts: { -readonly [K in keyof MachineFacts]: MachineFacts[K] } = {};
  try {
    if (claimed.kind === 'undo') {
      await undoEffects(parts, lease, claimed, term);
      await commit(parts, claimed, (model) => model.undone(claimed.held));
    } else await actOnce(parts, lease, claimed, term, facts);
  } catch (error) {
    await settle(parts, claimed, term, error, facts);
  }
  return undefined;
}

async function claim(
  parts: EngineParts,
  lease: WorkerLease,
  stepId: string,
  isAlone: boolean,
): Promise<Claimed | { refused: ClaimRefusal } | undefined> {
  return changeRun(parts, { stepId }, (model, loaded) => {
    if (!lease.isHeld || lease.signal.aborted) return { refused: 'not-due' as const };
    const answer = model.claim(stepId, { id: lease.workerId, isAlone });
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
    machine: {
      machineId: machine.id,
      vmid: machine.vmid,
      mac: machine.mac,
      node: machine.node,
      smbiosUuid: machine.smbiosUuid,
      identity: { deployment: parts.deployment, machine: machine.id, vmid: machine.vmid },
    },
    effects: loaded.effects.filter((effect) => effect.stepId === held.stepId),
    nowMs: loaded.nowMs,
  };
}

async function actOnce(
  parts: EngineParts,
  lease: WorkerLease,
  claimed: Claimed,
  term: AbortSignal,
  facts: { -readonly [K in keyof MachineFacts]: MachineFacts[K] },
): Promise<void> {
  const { step, compiled, held } = claimed;
  const definition = parts.steps.get(step.uses)!;
  const input: unknown = definition.input.parse(step.input);
  const at = { step: step.key, runId: claimed.runId };
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
          { retry: 'later', afterMs: 1_000 },
        );
      await parts.checkpoints.reach('K2', at);
      const signal = AbortSignal.any([term, locked, AbortSignal.timeout(compiled.timeoutMs)]);
      const run = stepRun(parts, lease, claimed, signal, intended.hadEarlier, facts);
      const found: unknown = intended.hadEarlier
        ? await definition.find?.(input, parts.ports, run)
        : undefined;
      const result: unknown = found ?? (await definition.act(input, parts.ports, run));
      await parts.checkpoints.reach('K6', at);
      return result;
    },
  );
  if (outcome instanceof StepWait) {
    const { firstClaimedAtMs } = step;
    if (
      compiled.deadlineMs !== undefined &&
      definition.expired &&
      firstClaimedAtMs !== undefined &&
      claimed.nowMs - firstClaimedAtMs >= compiled.deadlineMs
    )
      throw definition.expired(input);
    await commit(parts, claimed, (model) => model.wait(held, outcome.afterMs, facts));
    return;
  }
  const output: unknown = definition.output.parse(outcome);
  await parts.checkpoints.reach('K9', at);
  await commit(parts, claimed, (model) => model.done(held, output, facts));
  await parts.checkpoints.reach('K7', at);
}

function stepRun(
  parts: EngineParts,
  lease: WorkerLease,
  claimed: Claimed,
  signal: AbortSignal,
  hasEarlierIntent: boolean,
  facts: { -readonly [K in keyof MachineFacts]: MachineFacts[K] },
): StepRun {
  const { step, held, machine, runId } = claimed;
  const call = guardedCall(parts, lease, held, signal, { step: step.key, runId });
  const notes = new OnceNotes(
    {
      store: parts.store,
      clock: parts.clock,
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
    progress: progressWriter(parts, held),
    learn: (more) => Object.assign(facts, more),
  };
}

/** Writes at most one percentage at a time and skips those in between. */
function progressWriter(parts: EngineParts, held: HeldStep): (percent: number) => void {
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
    next = Math.max(0, Math.min(100, Math.round(percent)));
    if (!isWriting)
      write().catch((error: unknown) => {
        isWriting = false;
        parts.log.debug({ err: error }, 'a progress note was not written');
      });
  };
}

async function commit(
  parts: EngineParts,
  claimed: Claimed,
  work: (model: Parameters<Parameters<typeof changeRun>[2]>[0]) => void,
): Promise<void> {
  const isHeld = await changeRun(parts, { stepId: claimed.held.stepId }, (model) => {
    if (!model.isHeld(claimed.held)) return false;
    work(model);
    return true;
  });
  if (isHeld !== true)
    parts.log.warn(
      { run: claimed.runId, step: claimed.step.key, epoch: claimed.held.epoch },
      'a stale result was refused',
    );
}

/** Turns what was thrown into the step's fate. */
async function settle(
  parts: EngineParts,
  claimed: Claimed,
  term: AbortSignal,
  error: unknown,
  facts: MachineFacts,
): Promise<void> {
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
  // Whatever an interrupted driver threw: the term is over, and that says nothing about the step.
  if (term.aborted || error instanceof LeaseOver) {
    await commit(parts, claimed, (model) => model.handOver(held));
    return;
  }
  const failure = failureOf(error, claimed);
  parts.log[failure.retry === 'later' ? 'warn' : 'error'](
    { ...about, code: failure.error.code, err: error },
    `attempt failed: ${failure.error.message}`,
  );
  await commit(parts, claimed, (model) => model.failed(held, failure, facts));
}

function failureOf(error: unknown, claimed: Claimed): Failure {
  if (isTimeout(error))
    return {
      error: {
        code: 'step-timeout',
        message: `Unable to finish step ${claimed.step.key}: it took longer than ${claimed.compiled.timeoutMs / 1000} s`,
      },
      retry: 'later',
      afterMs: undefined,
    };
  if (error instanceof HatcheryError)
    return { error: errorRecord(error), retry: error.retry, afterMs: error.afterMs };
  return { error: errorRecord(error), retry: 'never', afterMs: undefined };
}

/** The reason of `AbortSignal.timeout`, as it was thrown or as the cause of what a driver made of it. */
function isTimeout(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return (error instanceof DOMException && error.name === 'TimeoutError') || isTimeout(error.cause);
}
