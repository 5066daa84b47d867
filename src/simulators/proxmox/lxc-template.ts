import { holdsFiles, type WorldGuest } from '../world.js';
import { need } from './auth.js';
import { digestOf, disksOf } from './guest-config.js';
import { FLOCK_MS, forkTask, lockFile } from './guest-task.js';
import type { LockUser } from './locks.js';
import { isMount } from './lxc-keys.js';
import { formatMount } from './lxc-mounts.js';
import { checkUnlocked, guestOn, type Handled, type Pve, type PveCall, type Route } from './pve.js';
import type { TaskResult } from './task-engine.js';
import { renameVolume, storageOf } from './volumes.js';
import { failure } from './wire.js';

export const lxcTemplateRoute: Route = {
  method: 'POST',
  path: '/nodes/{node}/lxc/{vmid}/template',
  op: 'lxc.template',
  kind: 'fork',
  params: {},
  permit: (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Allocate'),
  handle: startTemplate,
};

/** A task does it, of which the answer says nothing. */
async function startTemplate(call: PveCall): Promise<Handled> {
  const { pve, node, vmid, account } = call;
  const user: LockUser = { actor: account.id, node, vmid };
  return pve.files.with(user, lockFile(vmid, 'lxc'), 'exclusive', FLOCK_MS, async () => {
    checkConvertible(pve, guestOn(pve, node, vmid, 'lxc'));
    const { journal } = forkTask(call, 'vztemplate', (_, asker) => convert(call, asker));
    return { data: null, ...(journal && { journal }) };
  });
}

function checkConvertible(pve: Pve, guest: WorldGuest): void {
  checkUnlocked(guest);
  if (guest.snapshots.size > 0) throw failure('unable to create template, because CT contains snapshots');
  if (guest.config['template'] === '1') throw failure("you can't convert a template to a template");
  if (guest.status === 'running') throw failure("you can't convert a CT to template if the CT is running");
  for (const { key, storage } of disksOf(guest.config))
    if (isMount(key) && holdsFiles(storageOf(pve, storage)))
      throw failure(`Directory storage '${storage}' does not support container templates!`);
}

/** Its volumes become base images one by one; the config says so last. */
async function convert({ pve, node, vmid }: PveCall, user: LockUser): Promise<TaskResult> {
  const guest = guestOn(pve, node, vmid, 'lxc');
  const digestBefore = digestOf(guest);
  pve.conditions.needQuorum();
  for (const disk of disksOf(guest.config)) {
    if (!isMount(disk.key)) continue;
    const volid = await renameVolume(pve, user, disk.volid, { vmid, kind: 'base' });
    guest.config[disk.key] = formatMount(volid, disk.options);
  }
  guest.config['template'] = '1';
  return { effect: true, incarnation: guest.incarnation, digestBefore, digestAfter: digestOf(guest) };
}
