import type { WorldGuest } from '../world.js';
import { need } from './auth.js';
import { hasCloudInitDrive, regenerate } from './cloud-init.js';
import { drawMs } from './durations.js';
import { applyPending } from './guest-config.js';
import { askHa } from './ha-request.js';
import type { LockUser } from './locks.js';
import { OPTIONAL_COUNT, OPTIONAL_FLAG, OPTIONAL_TEXT } from './params.js';
import { checkUnlocked, guestOn, type Handled, type PveCall, type Route } from './pve.js';
import { FORMATS } from './formats.js';
import * as formats from './qemu-formats.js';
import { checkRootParams, FLOCK_MS, lockFile, lockUser } from './guest-task.js';
import { bringUp, takeDown } from './running.js';
import type { Task, TaskResult } from './task-engine.js';
import { free, usableStorage } from './volumes.js';
import { failure, parameterErrors } from './wire.js';
import { disksOf } from './guest-config.js';

const permit: Route['permit'] = (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.PowerMgmt');
const NODE = { ...OPTIONAL_TEXT, format: FORMATS['pve-node'] };
const SHUTDOWN_S = 60;

/** How a task is named and what it does. */
type PowerKind = 'start' | 'stop' | 'shutdown';

export const powerRoutes: readonly Route[] = [
  {
    method: 'POST',
    path: '/nodes/{node}/qemu/{vmid}/status/start',
    op: 'qemu.start',
    kind: 'fork',
    params: {
      'force-cpu': OPTIONAL_TEXT,
      machine: formats.MACHINE,
      migratedfrom: NODE,
      migration_network: { ...OPTIONAL_TEXT, format: FORMATS.cidr },
      migration_type: formats.oneOf('secure', 'insecure'),
      'nets-host-mtu': { ...formats.matching(/^net\d+=\d+(,net\d+=\d+)*$/), version: '9.1' },
      skiplock: OPTIONAL_FLAG,
      stateuri: { ...OPTIONAL_TEXT, maxLength: 128 },
      targetstorage: { ...OPTIONAL_TEXT, list: true, format: FORMATS['storage-pair'] },
      timeout: OPTIONAL_COUNT,
      'with-conntrack-state': { ...OPTIONAL_FLAG, version: '9.1' },
    },
    permit,
    handle: startGuest,
  },
  {
    method: 'POST',
    path: '/nodes/{node}/qemu/{vmid}/status/stop',
    op: 'qemu.stop',
    kind: 'fork',
    params: {
      keepActive: OPTIONAL_FLAG,
      migratedfrom: NODE,
      'overrule-shutdown': OPTIONAL_FLAG,
      skiplock: OPTIONAL_FLAG,
      timeout: OPTIONAL_COUNT,
    },
    permit,
    handle: stopGuest,
  },
  {
    method: 'POST',
    path: '/nodes/{node}/qemu/{vmid}/status/shutdown',
    op: 'qemu.shutdown',
    kind: 'fork',
    params: {
      forceStop: OPTIONAL_FLAG,
      keepActive: OPTIONAL_FLAG,
      skiplock: OPTIONAL_FLAG,
      timeout: OPTIONAL_COUNT,
    },
    permit,
    handle: shutdownGuest,
  },
];

/** Who wants it: a call, or the HA manager as root. */
export type PowerUser = Pick<PveCall, 'pve' | 'node' | 'vmid' | 'op' | 'faults'> & {
  readonly account: Pick<PveCall['account'], 'id'>;
};

export interface PowerOptions {
  readonly skipLock?: boolean | undefined;
  /** Of a shutdown: what the guest is given before it fails. */
  readonly timeoutS?: number | undefined;
  /** Of a shutdown: stop it hard after that. */
  readonly isForced?: boolean | undefined;
}

function startGuest(call: PveCall): Handled {
  const { pve, node, vmid, params } = call;
  checkRootParams(
    call,
    ...['stateuri', 'skiplock', 'migratedfrom', 'migration_type', 'migration_network', 'targetstorage'],
    ...['force-cpu', 'nets-host-mtu', 'with-conntrack-state'],
  );
  if (params.has('targetstorage') && !params.has('migratedfrom'))
    throw parameterErrors({ targetstorage: 'targetstorage can only by used with migratedfrom.' });
  guestOn(pve, node, vmid);
  if (pve.ha.isManaged(vmid)) return askHa(call, 'start');
  return answer(powerTask(call, 'start', { skipLock: params.flag('skiplock') }));
}

function stopGuest(call: PveCall): Handled {
  const { pve, node, vmid, params } = call;
  checkRootParams(call, 'skiplock', 'keepActive', 'migratedfrom');
  guestOn(pve, node, vmid);
  if (pve.ha.isManaged(vmid)) return askHa(call, 'stop');
  if (params.flag('overrule-shutdown'))
    for (const task of pve.tasks.runningOn(node))
      if (task.type === 'qmshutdown' && task.id === String(vmid)) pve.tasks.interrupt(task);
  return answer(powerTask(call, 'stop', { skipLock: params.flag('skiplock') }));
}

function shutdownGuest(call: PveCall): Handled {
  const { pve, node, vmid, params } = call;
  checkRootParams(call, 'skiplock', 'keepActive');
  const guest = guestOn(pve, node, vmid);
  const isForced = params.flag('forceStop') ?? false;
  if (guest.isPaused && !isForced) throw failure('VM is paused - cannot shutdown');
  if (pve.ha.isManaged(vmid)) return askHa(call, 'stop');
  const options = { skipLock: params.flag('skiplock'), timeoutS: params.number('timeout'), isForced };
  return answer(powerTask(call, 'shutdown', options));
}

function answer(task: Task): Handled {
  return { data: task.upid, journal: { upid: task.upid } };
}

/** The real task, under the guest's flock. */
export function powerTask(by: PowerUser, how: PowerKind, options: PowerOptions = {}): Task {
  const { pve, node, vmid, account, op, faults } = by;
  const setup = { node, type: `qm${how}`, id: String(vmid), actor: account.id, op, vmid, faults };
  return pve.tasks.start(setup, (task) => {
    const user = lockUser(task);
    return pve.files.with(user, lockFile(vmid), 'exclusive', FLOCK_MS, async () => {
      if (how === 'start') return bootGuest(by, task, user, options);
      const guest = guestOn(pve, node, vmid);
      const wasRunning = guest.status === 'running';
      if (wasRunning) await haltGuest(by, task, user, how, options);
      return { incarnation: guest.incarnation, effect: wasRunning };
    });
  });
}

/** Brings a stopped guest up: merges what waited for it, regenerates its cloud-init drive, runs it. Needs the flock. */
export async function bootGuest(
  { pve, node, vmid }: PowerUser,
  task: Task,
  user: LockUser,
  options: PowerOptions = {},
): Promise<TaskResult> {
  const { clock } = pve.context;
  const guest = guestOn(pve, node, vmid);
  if (guest.config['template'] === '1') throw failure("you can't start a vm if it's a template");
  const isResumed = guest.config['lock'] === 'suspended';
  if (!options.skipLock && !isResumed) checkUnlocked(guest);
  if (guest.status === 'running') throw failure(`VM ${vmid} already running`);
  if (Object.keys(guest.pending).length > 0) pve.conditions.needQuorum();
  applyPending(guest);
  for (const { storage, volid } of disksOf(guest.config)) {
    usableStorage(pve, storage, node);
    pve.conditions.needVolume(vmid, volid);
  }
  const starting = pve.tasks.runningOn(node).filter((one) => one.type === 'qmstart').length;
  const load = Math.max(1, starting / 8);
  if (hasCloudInitDrive(guest)) {
    task.log('generating cloud-init ISO');
    await clock.sleep(drawMs(pve.context, 'cloud-init-iso', vmid), user.signal);
    regenerate(pve, guest);
  }
  await task.pass('task');
  await clock.sleep(drawMs(pve.context, 'start', vmid) * load, user.signal);
  if (isResumed) await dropState(pve, user, guest);
  return { effect: true, incarnation: guest.incarnation, params: bringUp(pve, guest) };
}

/** The memory that was saved is read; nobody needs it any more. */
async function dropState(pve: PveCall['pve'], user: LockUser, guest: WorldGuest): Promise<void> {
  const state = guest.config['vmstate'];
  if (state !== undefined) await free(pve, user, state, guest.vmid);
  delete guest.config['vmstate'];
  delete guest.config['lock'];
}

/** Takes a running guest down: hard, or by asking it. Needs the flock. */
export async function haltGuest(
  { pve, node, vmid }: PowerUser,
  task: Task,
  user: LockUser,
  how: 'stop' | 'shutdown',
  options: PowerOptions = {},
): Promise<void> {
  const guest = guestOn(pve, node, vmid);
  if (!options.skipLock) checkUnlocked(guest);
  const neededMs = drawMs(pve.context, how, vmid);
  if (how === 'shutdown') {
    const patienceMs = (options.timeoutS ?? SHUTDOWN_S) * 1_000;
    await pve.context.clock.sleep(Math.min(neededMs, patienceMs), user.signal);
    if (neededMs > patienceMs || guest.isPaused) {
      if (!options.isForced) throw failure('VM quit/powerdown failed - got timeout');
      task.log('VM still running - terminating now with SIGTERM');
    }
  } else await pve.context.clock.sleep(neededMs, user.signal);
  takeDown(guest);
}
