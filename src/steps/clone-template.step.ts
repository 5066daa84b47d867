import { z } from 'zod';
import { HatcheryError } from '../core/errors.js';
import { describeWithMark, formatMark } from '../core/mark.js';
import type { CloneRequest, Hypervisor, OwnGuest, TaskRef, TaskVerdict } from '../ports/hypervisor.js';
import { StepWait, defineStep, type StepRun } from '../plan/step.js';
import { burnVmid, replaceVmid } from './burn-vmid.js';
import { guestEffect, leftNote } from './guest-effect.js';
import { guestLock, onMachine, type OnMachine } from './machine-step.js';

type FailedTask = Extract<TaskVerdict, { verdict: 'error' }>;

/** Copies the pinned template into a new, stopped guest under our VMID, with our mark, in our pool. */
export const cloneTemplate = defineStep<OnMachine, { node: string; vmid: number }>({
  id: 'clone-template',
  version: 1,
  summary: 'Copy a template into a new, stopped machine',
  input: onMachine,
  output: z.strictObject({ node: z.string(), vmid: z.number().int() }),
  slots: ({ machine }) => [storageSlot(machine), `clones@node:${machine.cluster}/${machine.template.node}`],
  locks: ({ machine }, at) => [guestLock(machine, at)],
  effects: ({ machine }, at) => [guestEffect(machine.cluster, at.vmid, machine.pool)],
  timeout: '30m',
  retry: { attempts: 6, first: '2s', max: '1m' },
  unskippable: 'every later step works on the guest that it makes',
  lateWrites:
    'A clone call that arrives late meets our own VMID: the cluster refuses it, or its guest carries our mark and is found.',
  async act({ machine }, ports, run) {
    const hypervisor = ports.hypervisor(machine.cluster);
    const request = cloneRequest(machine, run);
    const key = `clone-${request.vmid}`;
    let task;
    try {
      task = await run.once(key, {
        send: (call) => hypervisor.startClone(request, call),
        resolve: (sinceMs, call) => hypervisor.traceClone(request, run.machine.identity, sinceMs, call),
      });
    } catch (error) {
      if (error instanceof HatcheryError && error.code === 'foreign-guest')
        return resolveTaken(hypervisor, run, error);
      throw withNextCommand(run, error);
    }
    const verdict = await hypervisor.followTask(
      task,
      run.call,
      (progress) => progress.percent !== undefined && run.progress(progress.percent),
    );
    if (verdict.verdict !== 'unknown' && verdict.lockWaited)
      await run.waited(storageSlot(machine), verdict.lockWaited);
    // The copy joins the pool before it ends well.
    const isWell = verdict.verdict === 'ok';
    const made = await hypervisor.readOwn(run.machine.identity, run.call, { withPool: !isWell });
    if (made.answer === 'ours' && !isWell)
      needPool(made.guest, machine.pool, verdict.verdict === 'error', run);
    if (made.answer === 'ours' && verdict.verdict !== 'error') {
      const lack = lackOf(made.guest, machine.template.disk);
      if (lack === undefined) return accept(made.guest, run);
      await hypervisor.destroyOwn(run.machine.identity, ourAttempt(run), run.call);
      await run.forget(key);
      throw notWhole(run, lack);
    }
    if (made.answer === 'foreign') {
      if (verdict.verdict !== 'error') throw changedHands(run, made.why);
      return burnVmid(hypervisor, run, made.why);
    }
    if (made.answer === 'unknown') throw waitsFor(made.cause) ?? unknown(run, made.why);
    if (verdict.verdict === 'error') {
      // What a failed clone left behind under our mark is ours to remove before the next try.
      if (made.answer === 'ours')
        await hypervisor.destroyOwn(run.machine.identity, ourAttempt(run), run.call);
      await run.forget(key);
      if (verdict.leavesVolume) return replaceVmid(hypervisor, run, leftNote(run.machine.vmid, verdict.text));
      throw cloneFailed(run, task, verdict);
    }
    if (verdict.verdict === 'ok')
      throw unknown(run, `its task ended (${verdict.verdict}) and the guest is not there`);
    // Nobody says how it ended, but its id is free: whatever it began is gone, and it is asked for again after another look.
    await run.forget(key);
    throw unknown(run, `its task ended (${verdict.text}) and nothing of it is there`);
  },
});

/** Clones on one storage queue for its lock. */
function storageSlot({ cluster, node, storage, template }: OnMachine['machine']): string {
  return `clones@storage:${cluster}/${template.storageShared ? storage : `${node}:${storage}`}`;
}

function cloneRequest(machine: OnMachine['machine'], run: StepRun): CloneRequest {
  return {
    template: machine.template,
    vmid: run.machine.vmid,
    name: machine.name,
    node: machine.node,
    mode: machine.clone,
    storage: machine.clone === 'full' ? machine.storage : undefined,
    description: describeWithMark(machine.description, run.mark()),
  };
}

/** Outside our pool we may not even remove it: a person has to. What a failed clone left has no disks any more. */
function needPool({ vmid, node, pool }: OwnGuest, wanted: string, isRest: boolean, run: StepRun): void {
  if (pool === wanted) return;
  const command = isRest
    ? `as root on ${node}: qm destroy ${vmid} --purge`
    : `pvesh set /pools --poolid ${wanted} --vms ${vmid}`;
  const what = isRest ? 'remove what a failed clone left of' : 'use';
  throw new HatcheryError('remote-refused', `Unable to ${what} guest ${vmid}: it is not in pool ${wanted}`, {
    retry: 'after-fix',
    hint: `${isRest ? 'Remove it' : 'Put it into the pool'} (${command}), then: hatchery run retry ${run.runId}`,
  });
}

/** What is missing of a clone whose task ended well: it would not boot, or boot with the identity of its template. */
function lackOf({ disks, cloudInitDrives }: OwnGuest, mainDisk: string): string | undefined {
  if (disks[mainDisk]?.sizeGiB === undefined) return `it has no disk ${mainDisk}`;
  return cloudInitDrives === 1 ? undefined : `it has ${cloudInitDrives} cloud-init drives instead of one`;
}

const ourAttempt = ({ runId }: StepRun): { smbiosUuid: undefined; deletingRun: string } => ({
  smbiosUuid: undefined,
  deletingRun: runId,
});

const notWhole = ({ machine }: StepRun, lack: string): HatcheryError =>
  new HatcheryError('remote-refused', `Unable to use guest ${machine.vmid}: ${lack}; it was removed`, {
    retry: 'later',
    hint: 'Look at the template: each clone needs its disk and exactly one cloud-init drive.',
  });

function accept(guest: OwnGuest, run: StepRun): { node: string; vmid: number } {
  if (guest.lock !== undefined)
    throw new HatcheryError(
      'lock-timeout',
      `Unable to go on with guest ${guest.vmid}: its config is still locked (${guest.lock})`,
      {
        retry: 'later',
        facts: { lock: guest.lock },
        hint: `Wait for the job that holds it; if nothing runs any more: qm unlock ${guest.vmid}`,
      },
    );
  run.learn({
    node: guest.node,
    ...(guest.smbiosUuid === undefined ? {} : { smbiosUuid: guest.smbiosUuid }),
  });
  return { node: guest.node, vmid: guest.vmid };
}

/** A clone that died with its node leaves a config that says `lock: clone`, which only root may take away; its disks are not whole. */
const halfMade = ({ machine: { vmid, node }, runId }: StepRun): string =>
  `If no task makes it any more, it is half made: look at it on its node (qm config ${vmid}; planned: ${node}), and if it is a clone that died, remove it: qm unlock ${vmid} && qm destroy ${vmid}. Then: hatchery run retry ${runId}`;

/** "Already exists" is resolved before anything else: ours = follow it, foreign = burn the id, neither = wait. */
async function resolveTaken(hypervisor: Hypervisor, run: StepRun, refusal: HatcheryError): Promise<StepWait> {
  const own = await hypervisor.readOwn(run.machine.identity, run.call);
  if (own.answer === 'foreign') return burnVmid(hypervisor, run, own.why);
  if (own.answer === 'unknown') throw waitsFor(own.cause) ?? unknown(run, own.why);
  throw unknown(run, refusal.message);
}

/** Burning the id of what we made ourselves would forget a guest of ours whose mark a person wiped out. */
const changedHands = (run: StepRun, why: string): HatcheryError =>
  new HatcheryError(
    'foreign-guest',
    `Unable to go on with guest ${run.machine.vmid}: our clone made it, but now ${why}`,
    {
      retry: 'after-fix',
      hint: `Nothing was written to it. If it is still this machine, put the last line of its description back: ${formatMark(run.mark())} Then: hatchery run retry ${run.runId}`,
      facts: { vmid: run.machine.vmid },
    },
  );

/** What stays unknown until it parks is for a person to look at. */
function withNextCommand(run: StepRun, error: unknown): unknown {
  if (!(error instanceof HatcheryError) || error.code !== 'outcome-unknown' || error.hint !== undefined)
    return error;
  const { retry, afterMs } = error;
  return new HatcheryError(error.code, error.message, {
    retry,
    ...(afterMs !== undefined && { afterMs }),
    hint: halfMade(run),
    cause: error,
  });
}

/** A cluster that cannot be read now is waited for, and tells nothing about the clone. */
const waitsFor = (cause: HatcheryError | undefined): HatcheryError | undefined =>
  cause?.retry === 'later' ? cause : undefined;

const unknown = (run: StepRun, why: string): HatcheryError =>
  new HatcheryError(
    'outcome-unknown',
    `Unable to tell whether guest ${run.machine.vmid} was cloned: ${why}`,
    { retry: 'later', afterMs: 2_000, hint: halfMade(run) },
  );

const cloneFailed = (run: StepRun, task: TaskRef, { text, code, retry }: FailedTask): HatcheryError =>
  new HatcheryError(code ?? 'remote-refused', `Unable to clone guest ${run.machine.vmid}: ${text}`, {
    retry: retry ?? 'never',
    facts: { vmid: run.machine.vmid, task: task.id },
    hint: `The end of its task log: hatchery run show ${run.runId}. Mend its cause, then: hatchery run retry ${run.runId}`,
  });
