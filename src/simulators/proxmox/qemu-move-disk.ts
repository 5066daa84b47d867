import type { WorldGuest } from '../world.js';
import { need } from './auth.js';
import { copyBlocks } from './copy-blocks.js';
import { FORMATS } from './formats.js';
import { digestOf, disksOf, formatDisk, type DiskLine } from './guest-config.js';
import type { LockUser } from './locks.js';
import { OPTIONAL_COUNT, OPTIONAL_FLAG, OPTIONAL_TEXT, VMID } from './params.js';
import { checkUnlocked, guestOn, type Handled, type PveCall, type Route } from './pve.js';
import { DIGEST } from './qemu-config.js';
import { oneOf } from './qemu-formats.js';
import { DISK_NAMES, numbered } from './qemu-resize.js';
import { FLOCK_MS, forkLocked, lockFile } from './guest-task.js';
import type { TaskResult } from './task-engine.js';
import { allocate, free, ownName, renameVolume, usableStorage, volumeOf } from './volumes.js';
import { failure, parameterErrors } from './wire.js';

const NAMES = [...DISK_NAMES, ...numbered('unused', 256)];

export const moveDiskRoute: Route = {
  method: 'POST',
  path: '/nodes/{node}/qemu/{vmid}/move_disk',
  op: 'qemu.move-disk',
  kind: 'fork',
  params: {
    bwlimit: OPTIONAL_COUNT,
    delete: OPTIONAL_FLAG,
    digest: DIGEST,
    disk: { type: 'string', enum: NAMES },
    format: oneOf('raw', 'qcow2', 'vmdk'),
    storage: { ...OPTIONAL_TEXT, format: FORMATS['pve-storage-id'] },
    'target-digest': DIGEST,
    'target-disk': oneOf(...NAMES),
    'target-vmid': { ...VMID, optional: true },
  },
  permit: (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Config.Disk'),
  handle: startMove,
};

function startMove(call: PveCall): Handled {
  const { pve, node, vmid, params, account } = call;
  const other = params.number('target-vmid');
  const storage = params.text('storage');
  if (other !== undefined) {
    if (storage !== undefined)
      throw parameterErrors({ 'target-vmid': "either set 'storage' or 'target-vmid', but not both" });
    need(account, `/vms/${other}`, 'VM.Config.Disk');
    diskOf(call, guestOn(pve, node, vmid));
    checkReceiver(call, other);
    return forkLocked(call, 'qmmove', (_, user) => reassign(call, user, other));
  }
  if (storage === undefined) {
    const missing = "either 'storage' or 'target-vmid' needs to be set";
    throw parameterErrors({ storage: missing, 'target-vmid': missing });
  }
  need(account, `/storage/${storage}`, 'Datastore.AllocateSpace');
  checkMove(call, guestOn(pve, node, vmid), storage);
  return forkLocked(call, 'qmmove', (_, user) => move(call, user, storage));
}

function diskOf({ params }: PveCall, guest: WorldGuest): DiskLine {
  checkUnlocked(guest);
  const digest = params.text('digest');
  if (digest !== undefined && digest !== digestOf(guest))
    throw failure('checksum mismatch (file change by other user?)');
  const key = params.need('disk');
  const disk = disksOf(guest.config).find((one) => one.key === key);
  if (!disk && guest.config[key] === undefined) throw failure(`disk '${key}' does not exist`);
  if (!disk || disk.isCloudInit) throw failure("you can't move a cdrom");
  return disk;
}

function checkMove(call: PveCall, guest: WorldGuest, storageId: string): DiskLine {
  const { pve, node, params } = call;
  const disk = diskOf(call, guest);
  const storage = usableStorage(pve, storageId, node);
  if (!storage.content.includes('images'))
    throw parameterErrors({ storage: `storage '${storageId}' does not support vm images` });
  const format = params.text('format');
  const now = /\.(raw|qcow2|vmdk)$/.exec(disk.volid)?.[1];
  if (storageId === disk.storage && (format === undefined || now === undefined || format === now))
    throw failure("you can't move to the same storage with same format");
  const isSnapshotted = [...guest.snapshots.values()].some(({ sizesGiB }) => disk.volid in sizesGiB);
  if (isSnapshotted && params.flag('delete'))
    throw failure("you can't move a disk with snapshots and delete the source");
  return disk;
}

/** Copies it; what it was stays as `unused` or is freed. */
async function move(call: PveCall, user: LockUser, storageId: string): Promise<TaskResult> {
  const { pve, node, vmid, params } = call;
  const guest = guestOn(pve, node, vmid);
  const disk = checkMove(call, guest, storageId);
  pve.conditions.needQuorum();
  const storage = usableStorage(pve, storageId, node);
  const volume = volumeOf(pve, disk.volid, node);
  const sizeGiB = volume?.sizeGiB ?? 0;
  const digestBefore = digestOf(guest);
  user.log?.(`create full clone of drive ${disk.key} (${disk.volid})`);
  const usedGiB = volume?.usedGiB ?? 0;
  const wanted = { vmid, node, sizeGiB, usedGiB, format: params.text('format') };
  const volid = await allocate(pve, user, storage, wanted);
  await copyBlocks(pve, user, storage, sizeGiB);
  guest.config[disk.key] = formatDisk(volid, disk.options);
  const freed: string[] = [];
  if (params.flag('delete')) {
    await free(pve, user, disk.volid, vmid);
    freed.push(ownName(disk.volid));
  } else guest.config[nextUnused(guest)] = disk.volid;
  const { incarnation } = guest;
  return {
    effect: true,
    incarnation,
    digestBefore,
    digestAfter: digestOf(guest),
    params: { disk: disk.key, freed },
  };
}

function nextUnused({ config }: WorldGuest): string {
  return numbered('unused', 256).find((key) => config[key] === undefined) ?? 'unused0';
}

function checkReceiver({ pve, node, params }: PveCall, vmid: number): WorldGuest {
  const guest = guestOn(pve, node, vmid);
  checkUnlocked(guest);
  const digest = params.text('target-digest');
  if (digest !== undefined && digest !== digestOf(guest))
    throw failure('checksum mismatch (file change by other user?)');
  const key = params.text('target-disk') ?? params.need('disk');
  if (guest.config[key] !== undefined)
    throw failure(`Target disk key '${key}' is already in use for VM '${vmid}'!`);
  return guest;
}

/** Gives a disk to another guest of the node: the volume gets that one's name. */
async function reassign(call: PveCall, user: LockUser, other: number): Promise<TaskResult> {
  const { pve, node, vmid, params } = call;
  return pve.files.with(user, lockFile(other), 'exclusive', FLOCK_MS, async () => {
    const guest = guestOn(pve, node, vmid);
    const disk = diskOf(call, guest);
    const receiver = checkReceiver(call, other);
    pve.conditions.needQuorum();
    const digestBefore = digestOf(guest);
    const volid = await renameVolume(pve, user, disk.volid, { vmid: other, kind: 'vm' });
    delete guest.config[disk.key];
    receiver.config[params.text('target-disk') ?? disk.key] = formatDisk(volid, disk.options);
    const { incarnation } = guest;
    return {
      effect: true,
      incarnation,
      digestBefore,
      digestAfter: digestOf(guest),
      params: { disk: disk.key, receiver: other },
    };
  });
}
