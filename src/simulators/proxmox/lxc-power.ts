import { need } from './auth.js';
import { drawMs } from './durations.js';
import { disksOf } from './guest-config.js';
import { checkRootParams, FLOCK_MS, forkLocked, lockFile, lockUser } from './guest-task.js';
import { askHa } from './ha-request.js';
import type { LockUser } from './locks.js';
import { checkRawLines } from './lxc-start.js';
import { applyContainerPending } from './lxc-config-write.js';
import { OPTIONAL_COUNT, OPTIONAL_FLAG } from './params.js';
import type { PowerOptions, PowerUser } from './power.js';
import { checkUnlocked, guestOn, type Handled, type PveCall, type Route } from './pve.js';
import { bringUp, takeDown } from './running.js';
import type { Task, TaskResult } from './task-engine.js';
import { usableStorage } from './volumes.js';
import { failure } from './wire.js';

const permit: Route['permit'] = (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.PowerMgmt');
const path = (verb: string): string => `/nodes/{node}/lxc/{vmid}/status/${verb}`;
const SHUTDOWN_S = 60;

export const lxcPowerRoutes: readonly Route[] = [
  {
    method: 'POST',
    path: path('start'),
    op: 'lxc.start',
    kind: 'fork',
    params: { debug: OPTIONAL_FLAG, skiplock: OPTIONAL_FLAG },
    permit,
    handle(call) {
      checkRootParams(call, 'skiplock');
      const { pve, node, vmid, params } = call;
      if (guestOn(pve, node, vmid, 'lxc').status === 'running') throw failure(`CT ${vmid} already running`);
      if (pve.ha.isManaged(vmid)) return askHa(call, 'start');
      return answer(startContainer(call, { skipLock: params.flag('skiplock') }));
    },
  },
  {
    method: 'POST',
    path: path('stop'),
    op: 'lxc.stop',
    kind: 'fork',
    params: { 'overrule-shutdown': OPTIONAL_FLAG, skiplock: OPTIONAL_FLAG },
    permit,
    handle(call) {
      checkRootParams(call, 'skiplock');
      const { pve, node, vmid, params } = call;
      checkRunning(call);
      if (pve.ha.isManaged(vmid)) return askHa(call, 'stop');
      if (params.flag('overrule-shutdown'))
        for (const task of pve.tasks.runningOn(node))
          if (task.type === 'vzshutdown' && task.id === String(vmid)) pve.tasks.interrupt(task);
      return answer(stopContainer(call, 'stop', { skipLock: params.flag('skiplock') }));
    },
  },
  {
    method: 'POST',
    path: path('shutdown'),
    op: 'lxc.shutdown',
    kind: 'fork',
    params: { forceStop: OPTIONAL_FLAG, timeout: OPTIONAL_COUNT },
    permit,
    handle(call) {
      const { pve, vmid, params } = call;
      checkRunning(call);
      if (pve.ha.isManaged(vmid)) return askHa(call, 'stop');
      return answer(
        stopContainer(call, 'shutdown', {
          timeoutS: params.number('timeout'),
          isForced: params.flag('forceStop'),
        }),
      );
    },
  },
  {
    method: 'POST',
    path: path('reboot'),
    op: 'lxc.reboot',
    kind: 'fork',
    params: { timeout: OPTIONAL_COUNT },
    permit,
    handle(call) {
      const { pve, node, vmid, params } = call;
      // The real text says VM.
      if (guestOn(pve, node, vmid, 'lxc').status !== 'running') throw failure(`VM ${vmid} not running`);
      const options = { timeoutS: params.number('timeout') };
      return forkLocked(
        call,
        'vzreboot',
        async (task, user) => {
          await haltContainer(call, user, 'shutdown', options);
          return bootContainer(call, task, user);
        },
        'lxc',
      );
    },
  },
  ...checkpointRoutes(),
];

/** Saving a running container needs CRIU, which nodes do not have. */
function checkpointRoutes(): Route[] {
  const fails = (call: PveCall, type: string, how: string): Handled =>
    forkLocked(
      call,
      type,
      async () => {
        throw failure(
          `command 'lxc-checkpoint -n ${call.vmid} ${how} -D /var/lib/vz/dump' failed: exit code 1`,
        );
      },
      'lxc',
    );
  const common = { method: 'POST', kind: 'fork', params: {}, permit } as const;
  return [
    {
      ...common,
      path: path('suspend'),
      op: 'lxc.suspend',
      handle(call) {
        checkRunning(call);
        return fails(call, 'vzsuspend', '-s');
      },
    },
    {
      ...common,
      path: path('resume'),
      op: 'lxc.resume',
      handle(call) {
        const { pve, node, vmid } = call;
        if (guestOn(pve, node, vmid, 'lxc').status === 'running') throw failure(`CT ${vmid} already running`);
        return fails(call, 'vzresume', '-r --foreground');
      },
    },
  ];
}

function checkRunning({ pve, node, vmid }: PveCall): void {
  if (guestOn(pve, node, vmid, 'lxc').status !== 'running') throw failure(`CT ${vmid} not running`);
}

function answer(task: Task): Handled {
  return { data: task.upid, journal: { upid: task.upid } };
}

/** The real task, under the container's flock. */
export function startContainer(by: PowerUser, options: PowerOptions = {}): Task {
  return powerTask(by, 'vzstart', (task, user) => bootContainer(by, task, user, options));
}

export function stopContainer(by: PowerUser, how: 'stop' | 'shutdown', options: PowerOptions = {}): Task {
  return powerTask(by, `vz${how}`, async (_, user) => {
    const guest = guestOn(by.pve, by.node, by.vmid, 'lxc');
    const wasRunning = guest.status === 'running';
    if (wasRunning) await haltContainer(by, user, how, options);
    return { incarnation: guest.incarnation, effect: wasRunning };
  });
}

function powerTask(
  { pve, node, vmid, account, op, faults }: PowerUser,
  type: string,
  work: (task: Task, user: LockUser) => Promise<TaskResult>,
): Task {
  const setup = { node, type, id: String(vmid), actor: account.id, op, vmid, faults };
  return pve.tasks.start(setup, (task) => {
    const user = lockUser(task);
    return pve.files.with(user, lockFile(vmid, 'lxc'), 'exclusive', FLOCK_MS, () => work(task, user));
  });
}

/** Brings a stopped container up: merges what waited for it and runs it. Needs the flock. */
export async function bootContainer(
  { pve, node, vmid }: PowerUser,
  task: Task,
  user: LockUser,
  options: PowerOptions = {},
): Promise<TaskResult> {
  const guest = guestOn(pve, node, vmid, 'lxc');
  if (guest.config['template'] === '1') throw failure("you can't start a CT if it's a template");
  if (!options.skipLock) checkUnlocked(guest);
  if (guest.status === 'running') throw failure(`CT ${vmid} already running`);
  if (Object.keys(guest.pending).length > 0) pve.conditions.needQuorum();
  await applyContainerPending(pve, user, guest);
  for (const { storage, volid } of disksOf(guest.config)) {
    usableStorage(pve, storage, node);
    pve.conditions.needVolume(vmid, volid);
  }
  checkRawLines(pve, guest, (line) => task.log(line));
  const starting = pve.tasks.runningOn(node).filter((one) => one.type === 'vzstart').length;
  await task.pass('task');
  await pve.context.clock.sleep(drawMs(pve.context, 'start', vmid) * Math.max(1, starting / 8), user.signal);
  return { effect: true, incarnation: guest.incarnation, params: bringUp(pve, guest) };
}

/** Takes a running container down: hard, or by asking it. Needs the flock. */
export async function haltContainer(
  { pve, node, vmid }: PowerUser,
  user: LockUser,
  how: 'stop' | 'shutdown',
  { skipLock, timeoutS = SHUTDOWN_S, isForced = false }: PowerOptions = {},
): Promise<void> {
  const guest = guestOn(pve, node, vmid, 'lxc');
  if (!skipLock) checkUnlocked(guest);
  const neededMs = drawMs(pve.context, how, vmid);
  const patienceMs = how === 'stop' ? Infinity : timeoutS * 1_000;
  await pve.context.clock.sleep(Math.min(neededMs, patienceMs), user.signal);
  if (neededMs > patienceMs && !isForced)
    throw failure(`command 'lxc-stop -n ${vmid} --nokill --timeout ${timeoutS}' failed: exit code 1`);
  takeDown(guest);
}
