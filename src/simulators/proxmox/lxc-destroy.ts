import type { WorldGuest } from '../world.js';
import { need } from './auth.js';
import { forgetRights } from './destroy.js';
import { drawMs } from './durations.js';
import { disksOf } from './guest-config.js';
import { forkLocked } from './guest-task.js';
import type { LockUser } from './locks.js';
import { haltContainer } from './lxc-power.js';
import { OPTIONAL_FLAG } from './params.js';
import { checkUnlocked, guestOn, type Handled, type PveCall, type Route } from './pve.js';
import { TaskFailure, type Task, type TaskResult } from './task-engine.js';
import { basesInUse, free, occupyStorages, ownName } from './volumes.js';
import { failure } from './wire.js';

export const lxcDestroyRoute: Route = {
  method: 'DELETE',
  path: '/nodes/{node}/lxc/{vmid}',
  op: 'lxc.destroy',
  kind: 'fork',
  params: { purge: OPTIONAL_FLAG, 'destroy-unreferenced-disks': OPTIONAL_FLAG, force: OPTIONAL_FLAG },
  permit: (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Allocate'),
  handle: startDestroy,
};

function startDestroy(call: PveCall): Handled {
  const { pve, node, vmid, params } = call;
  const guest = guestOn(pve, node, vmid, 'lxc');
  checkDestroyable(call, guest);
  if (guest.status === 'running' && !params.flag('force')) throw isRunning(vmid);
  const { incarnation } = guest;
  const handled = forkLocked(call, 'vzdestroy', (task, user) => destroy(call, task, user), 'lxc');
  return { ...handled, journal: { ...handled.journal, incarnation } };
}

function checkDestroyable({ pve, params }: PveCall, guest: WorldGuest): void {
  if (guest.config['protection'] === '1')
    throw failure(`can't remove CT ${guest.vmid} - protection mode enabled`);
  checkUnlocked(guest);
  if (pve.ha.isManaged(guest.vmid) && !params.flag('purge'))
    throw failure(`unable to remove CT ${guest.vmid} - used in HA resources and purge parameter not set.`);
}

const isRunning = (vmid: number): Error => failure(`unable to destroy CT ${vmid} - container is running`);

/** Volumes first, one by one: one that cannot be removed ends the task, and the config stays. Then access rights and pool, the config last. */
async function destroy(call: PveCall, task: Task, user: LockUser): Promise<TaskResult> {
  const { pve, node, vmid, params, faults } = call;
  const guest = guestOn(pve, node, vmid, 'lxc');
  checkDestroyable(call, guest);
  const wasRunning = guest.status === 'running';
  if (wasRunning) {
    if (!params.flag('force')) throw isRunning(vmid);
    task.log(`forced to stop CT ${vmid} before destroying!`);
    await haltContainer(call, user, 'stop');
  }
  const volids = volumesOf(call, guest);
  const storages = volids.map((volid) => volid.slice(0, volid.indexOf(':')));
  if (faults.holdLockMs > 0) occupyStorages(pve, node, storages, faults.holdLockMs);
  await task.pass('task');
  const freed: string[] = [];
  const about = { vmid, incarnation: guest.incarnation, params: { freed } };
  const fail = (text: string): TaskFailure => new TaskFailure(text, { ...about, effect: false });
  try {
    const used = basesInUse(pve, guest)[0];
    if (used) throw failure(`base volume '${used.volid}' is still in use by linked cloned`);
    for (const volid of volids) {
      await free(pve, user, volid, vmid);
      freed.push(ownName(volid));
    }
    pve.conditions.needQuorum();
    guest.config = { lock: 'destroyed' };
    guest.rawLines = [];
    await pve.context.clock.sleep(drawMs(pve.context, 'destroy', vmid), user.signal);
  } catch (error) {
    if (task.signal.aborted) throw error;
    throw fail(error instanceof Error ? error.message : String(error));
  }
  try {
    await forgetRights(pve, user, vmid);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw fail(`access permissions cleanup for CT ${vmid} failed: ${why}`);
  }
  if (params.flag('purge')) {
    task.log(`purging CT ${vmid} from related configurations..`);
    pve.ha.forget(`ct:${vmid}`);
  }
  if (pve.world.guests.get(vmid) === guest) pve.world.guests.delete(vmid);
  return { ...about, effect: true };
}

/** Those that the config names; with `destroy-unreferenced-disks` all that carry the VMID. */
function volumesOf({ pve, node, vmid, params }: PveCall, guest: WorldGuest): string[] {
  const volids = disksOf(guest.config).map(({ volid }) => volid);
  if (params.flag('destroy-unreferenced-disks'))
    for (const volume of pve.world.volumes.values())
      if (volume.vmid === vmid && (volume.node ?? node) === node && !volids.includes(volume.volid))
        volids.push(volume.volid);
  return volids;
}
