import type { WorldGuest } from '../world.js';
import { need } from './auth.js';
import { drawMs } from './durations.js';
import { digestOf, disksOf, sizeGiB, sizeText, type DiskLine } from './guest-config.js';
import { forkLocked } from './guest-task.js';
import type { LockUser } from './locks.js';
import { formatMount } from './lxc-mounts.js';
import { checkUnlocked, guestOn, type Handled, type PveCall, type Route } from './pve.js';
import { DIGEST } from './qemu-config.js';
import { numbered } from './qemu-resize.js';
import type { TaskResult } from './task-engine.js';
import { usableStorage, volumeOf } from './volumes.js';
import { failure } from './wire.js';

export const lxcResizeRoute: Route = {
  method: 'PUT',
  path: '/nodes/{node}/lxc/{vmid}/resize',
  op: 'lxc.resize',
  kind: 'fork',
  params: {
    digest: DIGEST,
    disk: { type: 'string', enum: ['rootfs', ...numbered('mp', 256)] },
    size: { type: 'string', pattern: /^\+?\d+(\.\d+)?[KMGT]?$/ },
  },
  permit: (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Config.Disk'),
  handle: startResize,
};

interface Growth {
  readonly guest: WorldGuest;
  readonly disk: DiskLine;
  readonly toGiB: number;
}

/** Looked at before the fork, and again under the flock. */
function startResize(call: PveCall): Handled {
  readGrowth(call);
  return forkLocked(call, 'resize', (_, user) => grow(call, user), 'lxc');
}

function readGrowth({ pve, node, vmid, params, account }: PveCall): Growth {
  const guest = guestOn(pve, node, vmid, 'lxc');
  checkUnlocked(guest);
  const digest = params.text('digest');
  if (digest !== undefined && digest !== digestOf(guest))
    throw failure('detected modified configuration - file changed by other user? Try again.');
  const key = params.need('disk');
  const disk = disksOf(guest.config).find((candidate) => candidate.key === key);
  const volume = disk && volumeOf(pve, disk.volid, node);
  if (!disk || !volume) throw failure(`no volume at '${key}'`);
  need(account, `/storage/${disk.storage}`, 'Datastore.AllocateSpace');
  const text = params.need('size');
  const fromGiB = volume.sizeGiB;
  const toGiB = text.startsWith('+') ? fromGiB + sizeGiB(text.slice(1)) : sizeGiB(text);
  if (toGiB < fromGiB) throw failure('unable to shrink disk size');
  if (toGiB === fromGiB) throw failure('disk is already at specified size');
  return { guest, disk, toGiB };
}

async function grow(call: PveCall, user: LockUser): Promise<TaskResult> {
  const { pve, node, vmid } = call;
  const { guest, disk, toGiB } = readGrowth(call);
  const digestBefore = digestOf(guest);
  usableStorage(pve, disk.storage, node);
  pve.conditions.needQuorum();
  await pve.context.clock.sleep(drawMs(pve.context, 'resize', vmid), user.signal);
  const volume = volumeOf(pve, disk.volid, node);
  if (volume) volume.sizeGiB = toGiB;
  guest.config[disk.key] = formatMount(disk.volid, { ...disk.options, size: sizeText(toGiB) });
  return {
    effect: true,
    vmid,
    incarnation: guest.incarnation,
    digestBefore,
    digestAfter: digestOf(guest),
    params: { disk: disk.key, sizeGiB: toGiB },
  };
}
