import { need } from './auth.js';
import { digestOf, disksOf, formatDisk, sizeGiB, sizeText } from './guest-config.js';
import { drawMs } from './durations.js';
import type { LockUser } from './locks.js';
import { OPTIONAL_FLAG } from './params.js';
import { checkUnlocked, guestOn, type Handled, type PveCall, type Route } from './pve.js';
import { DIGEST } from './qemu-config.js';
import { checkRootParams, forkLocked } from './guest-task.js';
import type { TaskResult } from './task-engine.js';
import { usableStorage, volumeOf } from './volumes.js';
import { failure } from './wire.js';

/** Names of all drives that hold a disk. */
export const DISK_NAMES = [
  ...numbered('ide', 4),
  ...numbered('scsi', 31),
  ...numbered('virtio', 16),
  ...numbered('sata', 6),
  'efidisk0',
  'tpmstate0',
];

export function numbered(name: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${name}${index}`);
}

export const resizeRoute: Route = {
  method: 'PUT',
  path: '/nodes/{node}/qemu/{vmid}/resize',
  op: 'qemu.resize',
  kind: 'fork',
  params: {
    digest: DIGEST,
    disk: { type: 'string', enum: DISK_NAMES },
    size: { type: 'string', pattern: /^\+?\d+(\.\d+)?[KMGT]?$/ },
    skiplock: OPTIONAL_FLAG,
  },
  permit: (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Config.Disk'),
  handle: startResize,
};

function startResize(call: PveCall): Handled {
  const { pve, node, vmid, params, account } = call;
  checkRootParams(call, 'skiplock');
  const guest = guestOn(pve, node, vmid);
  const wanted = disksOf(guest.config).find((disk) => disk.key === params.need('disk'));
  if (wanted) need(account, `/storage/${wanted.storage}`, 'Datastore.AllocateSpace');
  return forkLocked(call, 'resize', (_, user) => resizeLocked(call, user));
}

async function resizeLocked(call: PveCall, user: LockUser): Promise<TaskResult> {
  const { pve, node, vmid, params } = call;
  const guest = guestOn(pve, node, vmid);
  const digest = params.text('digest');
  if (digest !== undefined && digest !== digestOf(guest))
    throw failure('checksum mismatch (file change by other user?)');
  if (!params.flag('skiplock')) checkUnlocked(guest);
  const key = params.need('disk');
  const disk = disksOf(guest.config).find((candidate) => candidate.key === key);
  if (!disk) throw failure(`disk '${key}' does not exist`);
  if (disk.isCloudInit) throw failure("you can't resize a cdrom");
  const text = params.need('size');
  const before = sizeGiB(disk.options['size'] ?? '0');
  const after = text.startsWith('+') ? before + sizeGiB(text.slice(1)) : sizeGiB(text);
  const result = {
    vmid,
    incarnation: guest.incarnation,
    digestBefore: digestOf(guest),
    params: { disk: key, sizeGiB: after },
  };
  if (after < before) throw failure('shrinking disks is not supported');
  if (after === before) return { ...result, effect: false };
  usableStorage(pve, disk.storage, node);
  pve.conditions.needQuorum();
  await pve.context.clock.sleep(drawMs(pve.context, 'resize', vmid), user.signal);
  const volume = volumeOf(pve, disk.volid, node);
  if (volume) volume.sizeGiB = after;
  guest.config[key] = formatDisk(disk.volid, { ...disk.options, size: sizeText(after) });
  return { ...result, effect: true, digestAfter: digestOf(guest) };
}
