import { need } from './auth.js';
import { drawBootMs } from './durations.js';
import { disksOf, macOf } from './guest-config.js';
import { FORMATS } from './formats.js';
import { OPTIONAL_COUNT, OPTIONAL_FLAG, OPTIONAL_TEXT } from './params.js';
import { bootGuest, haltGuest } from './power.js';
import { checkUnlocked, guestOn, type Handled, type Pve, type PveCall, type Route } from './pve.js';
import { checkRootParams, FLOCK_MS, forkLocked, lockFile } from './guest-task.js';
import { allocateState, storageOf } from './volumes.js';
import { failure } from './wire.js';
import type { WorldGuest } from '../world.js';

const permit: Route['permit'] = (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.PowerMgmt');
const path = (verb: string): string => `/nodes/{node}/qemu/{vmid}/status/${verb}`;

/** What is done to a guest that runs. */
export const powerStateRoutes: readonly Route[] = [
  {
    method: 'POST',
    path: path('reboot'),
    op: 'qemu.reboot',
    kind: 'fork',
    params: { timeout: OPTIONAL_COUNT },
    permit,
    handle: reboot,
  },
  {
    method: 'POST',
    path: path('reset'),
    op: 'qemu.reset',
    kind: 'fork',
    params: { skiplock: OPTIONAL_FLAG },
    permit,
    handle: reset,
  },
  {
    method: 'POST',
    path: path('suspend'),
    op: 'qemu.suspend',
    kind: 'fork',
    params: {
      skiplock: OPTIONAL_FLAG,
      statestorage: { ...OPTIONAL_TEXT, format: FORMATS['pve-storage-id'], requires: 'todisk' },
      todisk: OPTIONAL_FLAG,
    },
    permit,
    handle: suspend,
  },
  {
    method: 'POST',
    path: path('resume'),
    op: 'qemu.resume',
    kind: 'fork',
    params: { nocheck: OPTIONAL_FLAG, skiplock: OPTIONAL_FLAG },
    permit,
    handle: resume,
  },
];

function runningGuest(pve: Pve, node: string, vmid: number): WorldGuest {
  const guest = guestOn(pve, node, vmid);
  if (guest.status !== 'running') throw failure(`VM ${vmid} not running`);
  return guest;
}

/** Down by asking, then up again. */
function reboot(call: PveCall): Handled {
  const { pve, node, vmid, params } = call;
  const guest = guestOn(pve, node, vmid);
  if (guest.isPaused) throw failure('VM is paused - cannot shutdown');
  runningGuest(pve, node, vmid);
  return forkLocked(call, 'qmreboot', async (task, user) => {
    await haltGuest(call, task, user, 'shutdown', { timeoutS: params.number('timeout') });
    return bootGuest(call, task, user);
  });
}

/** The button: the guest boots again without having been asked. */
function reset(call: PveCall): Handled {
  const { pve, node, vmid, params } = call;
  checkRootParams(call, 'skiplock');
  runningGuest(pve, node, vmid);
  return forkLocked(call, 'qmreset', async () => {
    const guest = runningGuest(pve, node, vmid);
    if (!params.flag('skiplock')) checkUnlocked(guest);
    guest.agentUpAtMs = pve.context.clock.elapsedMs() + drawBootMs(pve.context, vmid);
    return { effect: true, incarnation: guest.incarnation, params: { mac: macOf(guest) } };
  });
}

function suspend(call: PveCall): Handled {
  const { pve, node, vmid, params, account } = call;
  checkRootParams(call, 'skiplock');
  const isToDisk = params.flag('todisk') ?? false;
  const guest = runningGuest(pve, node, vmid);
  if (isToDisk && pve.ha.isManaged(vmid)) throw failure('Cannot suspend HA managed VM to disk');
  const storage = params.text('statestorage') ?? guest.config['vmstatestorage'] ?? firstStorage(guest);
  if (isToDisk) {
    need(account, `/vms/${vmid}`, 'VM.Config.Disk');
    need(account, `/storage/${storage}`, 'Datastore.AllocateSpace');
  }
  return forkLocked(call, isToDisk ? 'qmsuspend' : 'qmpause', async (_, user) => {
    const found = guestOn(pve, node, vmid);
    if (!params.flag('skiplock')) checkUnlocked(found);
    if (isToDisk) {
      found.config['lock'] = 'suspending';
      const name = `vm-${vmid}-state-suspend-${new Date(pve.context.clock.unixSeconds() * 1000).toISOString().slice(0, 10)}`;
      found.config['vmstate'] = await allocateState(pve, user, storageOf(pve, storage), found, name);
      found.config['lock'] = 'suspended';
      found.status = 'stopped';
      found.address = undefined;
    } else found.isPaused = true;
    const where = isToDisk ? { params: { state: 'disk' } } : {};
    return { effect: true, incarnation: found.incarnation, ...where };
  });
}

function firstStorage(guest: WorldGuest): string {
  return disksOf(guest.config).find((disk) => !disk.isCloudInit)?.storage ?? 'local';
}

/** From a pause, or from the state on disk. */
async function resume(call: PveCall): Promise<Handled> {
  const { pve, node, vmid, params, account } = call;
  checkRootParams(call, 'skiplock', 'nocheck');
  const user = { actor: account.id, node, vmid };
  const isSuspended = await pve.files.with(user, lockFile(vmid), 'exclusive', FLOCK_MS, async () => {
    const guest = guestOn(pve, node, vmid);
    return guest.config['lock'] === 'suspended' && guest.status === 'stopped';
  });
  if (!isSuspended) runningGuest(pve, node, vmid);
  return forkLocked(call, 'qmresume', async (task, asker) => {
    if (isSuspended) return bootGuest(call, task, asker);
    const guest = runningGuest(pve, node, vmid);
    if (!params.flag('skiplock')) checkUnlocked(guest);
    const wasPaused = guest.isPaused;
    guest.isPaused = false;
    return { effect: wasPaused, incarnation: guest.incarnation };
  });
}
