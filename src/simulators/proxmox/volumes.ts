import { SimProcess } from '../process.js';
import type { WorldGuest, WorldStorage, WorldVolume } from '../world.js';
import { holdsFiles, volumeKey } from '../world.js';
import { drawStorageMs } from './durations.js';
import type { DiskLine } from './guest-config.js';
import { disksOf } from './guest-config.js';
import type { LockUser } from './locks.js';
import type { Pve } from './pve.js';
import { failure } from './wire.js';

export function storageOf(pve: Pve, id: string): WorldStorage {
  const storage = pve.world.storages.find((candidate) => candidate.id === id);
  if (!storage) throw failure(`storage '${id}' does not exist`);
  return storage;
}

/** A storage that this node may use now. */
export function usableStorage(pve: Pve, id: string, node: string): WorldStorage {
  const storage = storageOf(pve, id);
  if (storage.isDisabled) throw failure(`storage '${id}' is disabled`);
  if (!isOn(storage, node)) throw failure(`storage '${id}' is not available on node '${node}'`);
  return storage;
}

export function isOn(storage: WorldStorage, node: string): boolean {
  return storage.nodes === undefined || storage.nodes.includes(node);
}

/** Used space in GiB; of one node for a local storage. */
export function usedGiB(pve: Pve, storage: WorldStorage, node: string): number {
  let used = pve.conditions.filledGiB(storage, node);
  for (const volume of pve.world.volumes.values())
    if (volume.storage === storage.id && (storage.shared || volume.node === node)) used += volume.usedGiB;
  return used;
}

/** Runs `work` under the storage's lock: cluster-wide and polled if shared, else a flock of the node. */
function withStorageLock<T>(
  pve: Pve,
  user: LockUser,
  storage: WorldStorage,
  work: (signal: AbortSignal | undefined) => Promise<T>,
): Promise<T> {
  if (storage.shared) return pve.locks.with(user, `storage-${storage.id}`, work);
  const path = `/var/lock/pve-manager/pve-storage-${storage.id}`;
  return pve.files.with(user, path, 'exclusive', 10_000, () => work(user.signal));
}

/** Somebody else takes the storages' locks for this long, as soon as they are free. */
export function occupyStorages(pve: Pve, node: string, ids: Iterable<string>, ms: number): void {
  const user: LockUser = { actor: 'foreign:lock-holder', node };
  for (const id of new Set(ids)) {
    const held = new SimProcess().run(() =>
      withStorageLock(pve, user, storageOf(pve, id), (signal) => pve.context.clock.sleep(ms, signal)),
    );
    held.catch((error: unknown) => user.log?.(String(error)));
  }
}

interface NewVolume {
  readonly vmid: number;
  readonly node: string;
  readonly sizeGiB: number;
  readonly usedGiB: number;
  /** Volume id of the base image that it shares blocks with. */
  readonly parent?: string;
  readonly isCloudInit?: boolean;
  readonly isContainer?: boolean;
  /** Own name of the volume; left out = the next free disk. */
  readonly name?: string;
  readonly format?: string | undefined;
}

/** Makes a volume under the storage's lock and gives its id. */
export async function allocate(
  pve: Pve,
  user: LockUser,
  storage: WorldStorage,
  wanted: NewVolume,
): Promise<string> {
  return withStorageLock(pve, user, storage, async (signal) => {
    const step = wanted.isCloudInit ? 'cloudInit' : 'link';
    await pve.context.clock.sleep(drawStorageMs(pve.context, storage, step, wanted.vmid), signal);
    if (usedGiB(pve, storage, wanted.node) + wanted.usedGiB > storage.sizeGiB)
      throw failure(`unable to create image: storage '${storage.id}' has no space left on device`);
    const volid = nameVolume(pve, storage, wanted);
    const node = storage.shared ? undefined : wanted.node;
    if (pve.world.volumes.has(volumeKey(node, volid))) throw nameTaken(storage, volid);
    pve.world.volumes.set(volumeKey(node, volid), {
      volid,
      storage: storage.id,
      node,
      vmid: wanted.vmid,
      sizeGiB: wanted.sizeGiB,
      usedGiB: wanted.usedGiB,
      parent: storage.type === 'lvmthin' ? undefined : wanted.parent,
    });
    return volid;
  });
}

/** A left-over of that name: disks find another number, a cloud-init drive has only one name. */
function nameTaken(storage: WorldStorage, volid: string): Error {
  const name = volid.slice(volid.lastIndexOf('/') + 1).replace(/^[^:]+:/, '');
  if (storage.type === 'rbd')
    return failure(`rbd create '${name}' error: rbd: create error: (17) File exists`);
  if (storage.type === 'lvmthin' || storage.type === 'lvm')
    return failure(
      `lvcreate '${storage.id}/${name}' error:   Logical Volume "${name}" already exists in volume group "${storage.id}"`,
    );
  if (storage.type === 'zfspool')
    return failure(`zfs error: cannot create '${storage.id}/${name}': dataset already exists`);
  return failure(
    `disk image '${folderOf(storage)}/images/${volid.slice(volid.indexOf(':') + 1)}' already exists`,
  );
}

/** Where a storage of files is on its nodes. */
export function folderOf({ id, type }: WorldStorage): string {
  if (type !== 'dir') return `/mnt/pve/${id}`;
  return id === 'local' ? '/var/lib/vz' : `/srv/${id}`;
}

/** A volume that holds the memory of a guest: twice its memory and half a GiB. */
export function allocateState(
  pve: Pve,
  user: LockUser,
  storage: WorldStorage,
  guest: WorldGuest,
  name: string,
): Promise<string> {
  const memoryGiB = Number(guest.config['memory'] ?? 512) / 1024;
  return allocate(pve, user, storage, {
    vmid: guest.vmid,
    node: guest.node,
    sizeGiB: memoryGiB * 2 + 0.5,
    usedGiB: memoryGiB / 2,
    name,
    format: 'raw',
  });
}

function nameVolume(pve: Pve, storage: WorldStorage, wanted: NewVolume): string {
  const { vmid, parent } = wanted;
  const format = wanted.format ?? 'qcow2';
  // A container gets a file system of ZFS itself.
  const isSubvol = (wanted.isContainer ?? false) && storage.type === 'zfspool';
  const own = wanted.isCloudInit
    ? `vm-${vmid}-cloudinit`
    : (wanted.name ?? `${isSubvol ? 'subvol' : 'vm'}-${vmid}-disk-${freeNumber(pve, storage, wanted)}`);
  const base = parent?.slice(parent.indexOf(':') + 1);
  const from = base === undefined || storage.type === 'lvmthin' ? '' : `${base}/`;
  return holdsFiles(storage)
    ? `${storage.id}:${from}${vmid}/${own}.${format}`
    : `${storage.id}:${from}${own}`;
}

function freeNumber(pve: Pve, storage: WorldStorage, { vmid, node }: NewVolume): number {
  const taken = [...pve.world.volumes.values()]
    .filter((volume) => volume.storage === storage.id && (storage.shared || volume.node === node))
    .map(({ volid }) => volid);
  let n = 0;
  while (taken.some((volid) => new RegExp(`(vm|base|subvol|basevol)-${vmid}-disk-${n}(\\.|$)`).test(volid)))
    n += 1;
  return n;
}

/** What a storage can do with a volume; thick LVM can do least. */
export function hasFeature(
  storage: WorldStorage,
  feature: 'snapshot' | 'clone' | 'copy' | 'template',
  of: { readonly isBase?: boolean; readonly snapshot?: string | undefined } = {},
): boolean {
  const { type } = storage;
  const isFile = holdsFiles(storage);
  if (feature === 'snapshot') return type !== 'lvm';
  if (feature === 'template') return type !== 'lvm';
  if (feature === 'copy') return of.snapshot === undefined || isFile || type === 'rbd' || type === 'lvmthin';
  if (type === 'lvm') return false;
  return of.snapshot === undefined ? (of.isBase ?? false) : type === 'rbd' || type === 'lvmthin';
}

/** Gives a volume its name as a base image (or another owner's), under its storage's lock. */
export async function renameVolume(
  pve: Pve,
  user: LockUser,
  volid: string,
  to: { readonly vmid: number; readonly kind: 'vm' | 'base' },
): Promise<string> {
  const storage = storageOf(pve, volid.slice(0, volid.indexOf(':')));
  return withStorageLock(pve, user, storage, async (signal) => {
    await pve.context.clock.sleep(drawStorageMs(pve.context, storage, 'free', to.vmid), signal);
    const old = volumeOf(pve, volid, user.node);
    if (!old) throw failure(`volume '${volid}' does not exist`);
    const n = to.kind === 'base' ? undefined : freeNumber(pve, storage, { ...old, ...to, node: user.node });
    const name = volid
      .replaceAll(new RegExp(`(^|[:/])${old.vmid}/`, 'g'), `$1${to.vmid}/`)
      .replace(
        /(?:vm|base|(subvol|basevol))-\d+-(disk-)?([^/]*)$/,
        (_, subvol: string | undefined, disk: string | undefined, rest: string) => {
          const kind = subvol === undefined ? to.kind : to.kind === 'base' ? 'basevol' : 'subvol';
          return disk === undefined || n === undefined
            ? `${kind}-${to.vmid}-${disk ?? ''}${rest}`
            : `${kind}-${to.vmid}-disk-${n}${/\..*$/.exec(rest)?.[0] ?? ''}`;
        },
      );
    forget(pve, volid, user.node);
    pve.world.volumes.set(volumeKey(old.node, name), { ...old, volid: name, vmid: to.vmid });
    return name;
  });
}

/** Removes a volume under its storage's lock; nothing there is no error. */
export async function free(pve: Pve, user: LockUser, volid: string, vmid: number): Promise<void> {
  const storage = storageOf(pve, volid.slice(0, volid.indexOf(':')));
  await withStorageLock(pve, user, storage, async (signal) => {
    await pve.context.clock.sleep(drawStorageMs(pve.context, storage, 'free', vmid), signal);
    forget(pve, volid, user.node);
  });
}

/** Gives the volumes that could not be removed. */
export async function freeAll(
  pve: Pve,
  user: LockUser,
  volids: readonly string[],
  vmid: number,
): Promise<string[]> {
  const left: string[] = [];
  for (const volid of volids) {
    try {
      await free(pve, { ...user, signal: undefined }, volid, vmid);
    } catch (error) {
      user.log?.(error instanceof Error ? error.message : String(error));
      left.push(ownName(volid));
    }
  }
  return left;
}

function forget(pve: Pve, volid: string, node: string): void {
  pve.world.volumes.delete(volid);
  pve.world.volumes.delete(volumeKey(node, volid));
}

export function volumeOf(pve: Pve, volid: string, node: string): WorldVolume | undefined {
  return pve.world.volumes.get(volid) ?? pve.world.volumes.get(volumeKey(node, volid));
}

/** Storage and own name of a volume, without the base image that a linked one names first: `ceph:vm-105-disk-0`. */
export function ownName(volid: string): string {
  return `${volid.slice(0, volid.indexOf(':'))}:${volid.split(/[:/]/).at(-1)}`;
}

/** The drives of a guest that others still share blocks with; lvm-thin does not know. */
export function basesInUse(pve: Pve, guest: WorldGuest): DiskLine[] {
  const parents = new Set([...pve.world.volumes.values()].map((volume) => volume.parent));
  return disksOf(guest.config).filter((disk) => parents.has(disk.volid));
}
