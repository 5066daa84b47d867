import type { WorldGuest } from '../world.js';
import { need } from './auth.js';
import { drawMs } from './durations.js';
import { disksOf } from './guest-config.js';
import type { LockUser } from './locks.js';
import { OPTIONAL_FLAG } from './params.js';
import { checkUnlocked, guestOn, type Handled, type Pve, type PveCall, type Route } from './pve.js';
import { checkRootParams, forkLocked } from './guest-task.js';
import { TaskFailure, type Task, type TaskResult } from './task-engine.js';
import { basesInUse, free, occupyStorages, ownName } from './volumes.js';
import { failure } from './wire.js';

export const destroyRoute: Route = {
  method: 'DELETE',
  path: '/nodes/{node}/qemu/{vmid}',
  op: 'qemu.destroy',
  kind: 'fork',
  params: { purge: OPTIONAL_FLAG, 'destroy-unreferenced-disks': OPTIONAL_FLAG, skiplock: OPTIONAL_FLAG },
  permit: (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Allocate'),
  handle: startDestroy,
};

function startDestroy(call: PveCall): Handled {
  const { pve, node, vmid, params } = call;
  checkRootParams(call, 'skiplock');
  const guest = guestOn(pve, node, vmid);
  checkDestroyable(guest);
  if (pve.ha.isManaged(vmid) && !params.flag('purge'))
    throw failure(`unable to remove VM ${vmid} - used in HA resources and purge parameter not set.`);
  const { incarnation } = guest;
  const handled = forkLocked(call, 'qmdestroy', (task, user) => destroy(call, task, user));
  return { ...handled, journal: { ...handled.journal, incarnation } };
}

function checkDestroyable(guest: WorldGuest): void {
  if (guest.config['protection'] === '1')
    throw failure(`can't remove VM ${guest.vmid} - protection mode enabled`);
  if (guest.status === 'running') throw failure(`VM ${guest.vmid} is running - destroy failed`);
}

/** Disks first (a disk that cannot be removed is a warning and stays), then access rights and pool, the config last. */
async function destroy(call: PveCall, task: Task, user: LockUser): Promise<TaskResult> {
  const { pve, node, vmid, params } = call;
  const guest = guestOn(pve, node, vmid);
  if (!params.flag('skiplock')) checkUnlocked(guest);
  checkDestroyable(guest);
  pve.conditions.needQuorum();
  const used = basesInUse(pve, guest)[0];
  if (used) throw failure(`base volume '${used.volid}' is still in use by linked cloned`);
  const freed: string[] = [];
  const left: string[] = [];
  const states = [...guest.snapshots.values()].flatMap(({ state }) => state ?? []);
  const volids = [...disksOf(guest.config).map((disk) => disk.volid), ...states];
  if (params.flag('destroy-unreferenced-disks'))
    for (const volume of pve.world.volumes.values())
      if (volume.vmid === vmid && (volume.node ?? node) === node && !volids.includes(volume.volid))
        volids.push(volume.volid);
  const storages = volids.map((volid) => volid.slice(0, volid.indexOf(':')));
  if (call.faults.holdLockMs > 0) occupyStorages(pve, node, storages, call.faults.holdLockMs);
  await task.pass('task');
  for (const volid of volids) {
    try {
      await free(pve, user, volid, vmid);
      freed.push(ownName(volid));
    } catch (error) {
      if (task.signal.aborted) throw error;
      task.log(
        `Could not remove disk '${volid}', check manually: ${error instanceof Error ? error.message : String(error)}`,
      );
      left.push(ownName(volid));
    }
  }
  guest.config = { lock: 'destroyed' };
  await pve.context.clock.sleep(drawMs(pve.context, 'destroy', vmid), user.signal);
  const about = { vmid, incarnation: guest.incarnation, params: { freed, left } };
  try {
    await forgetRights(pve, user, vmid);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new TaskFailure(`access permissions cleanup for VM ${vmid} failed: ${why}`, {
      ...about,
      effect: false,
    });
  }
  if (params.flag('purge')) {
    task.log(`purging VM ${vmid} from related configurations..`);
    pve.ha.forget(`vm:${vmid}`);
  }
  if (pve.world.guests.get(vmid) === guest) pve.world.guests.delete(vmid);
  // The older one only writes them to the log.
  return { ...about, effect: true, warnings: pve.world.version === '8.4' ? 0 : left.length };
}

/** The guest's pool and access rules. */
export async function forgetRights(pve: Pve, user: LockUser, vmid: number): Promise<void> {
  await pve.locks.with(user, 'file-user_cfg', async (signal) => {
    await pve.context.clock.sleep(drawMs(pve.context, 'cluster-write', vmid), signal);
    for (const pool of pve.world.pools.values()) pool.members.delete(vmid);
    pve.world.acl = pve.world.acl.filter(({ path }) => path !== `/vms/${vmid}`);
  });
}
