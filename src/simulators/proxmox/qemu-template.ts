import type { WorldGuest } from '../world.js';
import { need } from './auth.js';
import { digestOf, disksOf, formatDisk } from './guest-config.js';
import type { LockUser } from './locks.js';
import { checkUnlocked, guestOn, type Handled, type PveCall, type Route } from './pve.js';
import { oneOf } from './qemu-formats.js';
import { DISK_NAMES } from './qemu-resize.js';
import { forkLocked } from './guest-task.js';
import type { TaskResult } from './task-engine.js';
import { hasFeature, renameVolume, storageOf } from './volumes.js';
import { failure } from './wire.js';

export const templateRoute: Route = {
  method: 'POST',
  path: '/nodes/{node}/qemu/{vmid}/template',
  op: 'qemu.template',
  kind: 'fork',
  params: { disk: oneOf(...DISK_NAMES) },
  permit: (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Allocate'),
  handle: startTemplate,
};

function startTemplate(call: PveCall): Handled {
  const disk = call.params.text('disk');
  checkConvertible(guestOn(call.pve, call.node, call.vmid), disk);
  return forkLocked(call, 'qmtemplate', (_, user) => convert(call, user, disk));
}

function checkConvertible(guest: WorldGuest, disk: string | undefined): void {
  checkUnlocked(guest);
  if (guest.snapshots.size > 0) throw failure('unable to create template, because VM contains snapshots');
  if (guest.config['template'] === '1' && disk === undefined)
    throw failure("you can't convert a template to a template");
  if (guest.status === 'running') throw failure("you can't convert a VM to template if VM is running");
}

/** The config says so first; then its disks become base images one by one. */
async function convert(
  { pve, node, vmid }: PveCall,
  user: LockUser,
  only: string | undefined,
): Promise<TaskResult> {
  const guest = guestOn(pve, node, vmid);
  checkConvertible(guest, only);
  pve.conditions.needQuorum();
  const digestBefore = digestOf(guest);
  guest.config['template'] = '1';
  for (const disk of disksOf(guest.config)) {
    if (disk.isCloudInit || disk.key.startsWith('unused') || (only ?? disk.key) !== disk.key) continue;
    if (!hasFeature(storageOf(pve, disk.storage), 'template'))
      throw failure(`volume '${disk.volid}' does not support template/clone`);
    const volid = await renameVolume(pve, user, disk.volid, { vmid, kind: 'base' });
    guest.config[disk.key] = formatDisk(volid, disk.options);
  }
  return { effect: true, incarnation: guest.incarnation, digestBefore, digestAfter: digestOf(guest) };
}
