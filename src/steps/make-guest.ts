import { HatcheryError } from '../core/errors.js';
import { formatMark } from '../core/mark.js';
import type { Call } from '../ports/call.js';
import type { Hypervisor, LockWaited, OwnGuest, TaskRef, TaskVerdict, Trace } from '../ports/hypervisor.js';
import type { StepRun, StepWait } from '../plan/step.js';
import { burnVmid, replaceVmid } from './burn-vmid.js';
import { leftNote } from './guest-effect.js';
import { learnGuest } from './machine-step.js';

type FailedTask = Extract<TaskVerdict, { verdict: 'error' }>;

/** How a step makes the guest of its machine. */
export interface GuestMaking {
  /** Under which the remote task is kept; the guest's undo follows it. */
  readonly key: string;
  readonly words: {
    /** Completes "Unable to ... guest 105". */
    readonly make: string;
    readonly made: string;
    /** What makes it: `clone`. */
    readonly noun: string;
  };
  /** For root on a node. */
  readonly tool: 'qm' | 'pct';
  readonly pool: string;
  readonly send: (call: Call) => Promise<TaskRef>;
  readonly resolve: (sinceMs: number, call: Call) => Promise<Trace<TaskRef>>;
  /** What is missing of a guest whose task ended well; `undefined` = nothing. */
  readonly lackOf: (guest: OwnGuest) => string | undefined;
  readonly lackHint: string;
  readonly waited?: (wait: LockWaited) => Promise<void>;
}

interface Made {
  readonly node: string;
  readonly vmid: number;
}

/** Makes a stopped guest under our VMID, with our mark, in our pool, or takes over the one that an earlier attempt made. */
export async function makeGuest(
  hypervisor: Hypervisor,
  run: StepRun,
  making: GuestMaking,
): Promise<Made | StepWait> {
  const { key, send, resolve } = making;
  const { identity } = run.machine;
  let task;
  try {
    task = await run.once(key, { send, resolve });
  } catch (error) {
    if (error instanceof HatcheryError && error.code === 'foreign-guest')
      return resolveTaken(hypervisor, run, making, error);
    throw withNextCommand(run, making, error);
  }
  const verdict = await hypervisor.followTask(
    task,
    run.call,
    (progress) => progress.percent !== undefined && run.progress(progress.percent),
  );
  if (verdict.verdict !== 'unknown' && verdict.lockWaited) await making.waited?.(verdict.lockWaited);
  // The guest joins the pool before its task ends well.
  const isWell = verdict.verdict === 'ok';
  const made = await hypervisor.readOwn(identity, run.call, { withPool: !isWell });
  if (made.answer === 'ours' && !isWell) needPool(made.guest, verdict.verdict === 'error', run, making);
  if (made.answer === 'ours' && verdict.verdict !== 'error') {
    const lack = making.lackOf(made.guest);
    if (lack === undefined) return accept(made.guest, run, making);
    await hypervisor.destroyOwn(identity, ourAttempt(run), run.call);
    await run.forget(key);
    throw notWhole(run, lack, making.lackHint);
  }
  if (made.answer === 'foreign') {
    if (verdict.verdict !== 'error') throw changedHands(run, making, made.why);
    return burnVmid(hypervisor, run, made.why);
  }
  if (made.answer === 'unknown') throw waitsFor(made.cause) ?? unknown(run, making, made.why);
  if (verdict.verdict === 'error') {
    // What a failed task left behind under our mark is ours to remove before the next try.
    if (made.answer === 'ours') await hypervisor.destroyOwn(identity, ourAttempt(run), run.call);
    await run.forget(key);
    if (verdict.leavesVolume) return replaceVmid(hypervisor, run, leftNote(run.machine.vmid, verdict.text));
    throw makingFailed(run, making, task, verdict);
  }
  if (verdict.verdict === 'ok')
    throw unknown(run, making, `its task ended (${verdict.verdict}) and the guest is not there`);
  // Nobody says how it ended, but its id is free: whatever it began is gone, and it is asked for again after another look.
  await run.forget(key);
  throw unknown(run, making, `its task ended (${verdict.text}) and nothing of it is there`);
}

/** Outside our pool we may not even remove it: a person has to. What a failed task left has no disks any more. */
function needPool(
  { vmid, node, pool: seen }: OwnGuest,
  isRest: boolean,
  run: StepRun,
  { pool, tool, words }: GuestMaking,
): void {
  if (seen === pool) return;
  const command = isRest
    ? `as root on ${node}: ${tool} destroy ${vmid} --purge`
    : `pvesh set /pools --poolid ${pool} --vms ${vmid}`;
  const what = isRest ? `remove what a failed ${words.noun} left of` : 'use';
  throw new HatcheryError('remote-refused', `Unable to ${what} guest ${vmid}: it is not in pool ${pool}`, {
    retry: 'after-fix',
    hint: `${isRest ? 'Remove it' : 'Put it into the pool'} (${command}), then: hatchery run retry ${run.runId}`,
  });
}

const ourAttempt = ({ runId }: StepRun): { incarnations: readonly string[]; deletingRun: string } => ({
  incarnations: [],
  deletingRun: runId,
});

const notWhole = ({ machine }: StepRun, lack: string, hint: string): HatcheryError =>
  new HatcheryError('remote-refused', `Unable to use guest ${machine.vmid}: ${lack}; it was removed`, {
    retry: 'later',
    hint,
  });

function accept(guest: OwnGuest, run: StepRun, { tool }: GuestMaking): Made {
  if (guest.lock !== undefined)
    throw new HatcheryError(
      'lock-timeout',
      `Unable to go on with guest ${guest.vmid}: its config is still locked (${guest.lock})`,
      {
        retry: 'later',
        facts: { lock: guest.lock },
        hint: `Wait for the job that holds it; if nothing runs any more: ${tool} unlock ${guest.vmid}`,
      },
    );
  learnGuest(run, guest);
  return { node: guest.node, vmid: guest.vmid };
}

/** A task that died with its node leaves a config with its lock, which only root may take away; its disks are not whole. */
const halfMade = ({ machine: { vmid, node }, runId }: StepRun, { tool, words }: GuestMaking): string =>
  `If no task makes it any more, it is half made: look at it on its node (${tool} config ${vmid}; planned: ${node}), and if it is a ${words.noun} that died, remove it: ${tool} unlock ${vmid} && ${tool} destroy ${vmid}. Then: hatchery run retry ${runId}`;

/** "Already exists" is resolved before anything else: ours = follow it, foreign = burn the id, neither = wait. */
async function resolveTaken(
  hypervisor: Hypervisor,
  run: StepRun,
  making: GuestMaking,
  refusal: HatcheryError,
): Promise<StepWait> {
  const own = await hypervisor.readOwn(run.machine.identity, run.call);
  if (own.answer === 'foreign') return burnVmid(hypervisor, run, own.why);
  if (own.answer === 'unknown') throw waitsFor(own.cause) ?? unknown(run, making, own.why);
  throw unknown(run, making, refusal.message);
}

/** Burning the id of what we made ourselves would forget a guest of ours whose mark a person wiped out. */
const changedHands = (run: StepRun, { words }: GuestMaking, why: string): HatcheryError =>
  new HatcheryError(
    'foreign-guest',
    `Unable to go on with guest ${run.machine.vmid}: our ${words.noun} made it, but now ${why}`,
    {
      retry: 'after-fix',
      hint: `Nothing was written to it. If it is still this machine, put the last line of its description back: ${formatMark(run.mark())} Then: hatchery run retry ${run.runId}`,
      facts: { vmid: run.machine.vmid },
    },
  );

/** What stays unknown until it parks is for a person to look at. */
function withNextCommand(run: StepRun, making: GuestMaking, error: unknown): unknown {
  if (!(error instanceof HatcheryError) || error.code !== 'outcome-unknown' || error.hint !== undefined)
    return error;
  const { retry, afterMs } = error;
  return new HatcheryError(error.code, error.message, {
    retry,
    ...(afterMs !== undefined && { afterMs }),
    hint: halfMade(run, making),
    cause: error,
  });
}

/** A cluster that cannot be read now is waited for, and tells nothing about the guest. */
const waitsFor = (cause: HatcheryError | undefined): HatcheryError | undefined =>
  cause?.retry === 'later' ? cause : undefined;

const unknown = (run: StepRun, making: GuestMaking, why: string): HatcheryError =>
  new HatcheryError(
    'outcome-unknown',
    `Unable to tell whether guest ${run.machine.vmid} was ${making.words.made}: ${why}`,
    { retry: 'later', afterMs: 2_000, hint: halfMade(run, making) },
  );

const makingFailed = (
  run: StepRun,
  { words }: GuestMaking,
  task: TaskRef,
  { text, code, retry }: FailedTask,
): HatcheryError =>
  new HatcheryError(code ?? 'remote-refused', `Unable to ${words.make} guest ${run.machine.vmid}: ${text}`, {
    retry: retry ?? 'never',
    facts: { vmid: run.machine.vmid, task: task.id },
    hint: `The end of its task log: hatchery run show ${run.runId}. Mend its cause, then: hatchery run retry ${run.runId}`,
  });
