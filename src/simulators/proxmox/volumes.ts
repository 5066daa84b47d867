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

function nameVolume(pve: Pve, storage: WorldStorage, wanted: NewVolume): string {
  const { vmid, parent } = wanted;
  if (wanted.isCloudInit) return `${storage.id}:vm-${vmid}-cloudinit`;
  const taken = [...pve.world.volumes.values()]
    .filter((volume) => volume.vmid === vmid && volume.storage === storage.id)
    .map(({ volid }) => volid);
  let n = 0;
  while (taken.some((volid) => new RegExp(`vm-${vmid}-disk-${n}(\\.|$)`).test(volid))) n += 1;
  const base = parent?.slice(parent.indexOf(':') + 1);
  if (holdsFiles(storage))
    return `${storage.id}:${base === undefined ? '' : `${base}/`}${vmid}/vm-${vmid}-disk-${n}.qcow2`;
  const own = `vm-${vmid}-disk-${n}`;
  return base === undefined || storage.type === 'lvmthin'
    ? `${storage.id}:${own}`
    : `${storage.id}:${base}/${own}`;
}

/** Removes a volume under its storage's lock; nothing there is no error. */
export async function free(pve: Pve, user: LockUser, volid: string, vmid: number): Promise<void> {
  const storage = storageOf(pve, volid.slice(0, volid.indexOf(':')));
  await withStorageLock(pve, user, storage, async (signal) => {
    await pve.context.clock.sleep(drawStorageMs(pve.context, storage, 'free', vmid), signal);
    forget(pve, volid, user.node);
  });
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
