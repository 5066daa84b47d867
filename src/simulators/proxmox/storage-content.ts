import { holdsFiles, volumeKey, type WorldFile, type WorldStorage, type WorldVolume } from '../world.js';
import { need, type Account } from './auth.js';
import type { LockUser } from './locks.js';
import { VMID, type ParamSpecs } from './params.js';
import type { Handled, Pve, PveCall, Route } from './pve.js';
import type { Rights } from './rights.js';
import { CONTENT, permitReaders } from './storage.js';
import { folderOf, free, usableStorage, volumeOf } from './volumes.js';
import { failure, forbidden, parameterErrors } from './wire.js';

const GIB = 1_073_741_824;
const LIST = '/nodes/{node}/storage/{storage}/content';
const VOLUME: ParamSpecs = { volume: { type: 'string' } };

export const storageContentRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: LIST,
    op: 'storage.content',
    kind: 'storage-content',
    params: { content: CONTENT, vmid: { ...VMID, optional: true } },
    permit: permitReaders,
    handle: listContent,
  },
  {
    method: 'GET',
    path: `${LIST}/{volume}`,
    op: 'storage.volume',
    kind: 'protected-read',
    params: VOLUME,
    handle: readVolume,
  },
  {
    method: 'DELETE',
    path: `${LIST}/{volume}`,
    op: 'storage.volume.delete',
    kind: 'fork',
    params: { ...VOLUME, delay: { type: 'integer', optional: true, minimum: 1, maximum: 30 } },
    handle: deleteVolume,
  },
];

/** Ceph lists the whole pool, so it takes longer with every image. What the caller may not read is left out. */
async function listContent({ pve, node, path, params, account }: PveCall): Promise<Handled> {
  const storage = usableStorage(pve, path['storage'] ?? '', node);
  const isHere = (one: WorldVolume | WorldFile): boolean =>
    one.storage === storage.id && (storage.shared || one.node === node);
  const volumes = [...pve.world.volumes.values()].filter(isHere);
  if (storage.type === 'rbd') await pve.context.clock.sleep(150 + 5 * volumes.length);
  const files = params.has('vmid') ? [] : [...pve.world.files.values()].filter(isHere);
  const kind = params.text('content');
  const vmid = params.number('vmid');
  const readable = { id: storage.id, rights: account.at(`/storage/${storage.id}`) };
  const rows = [
    ...volumes
      .filter((volume) => (vmid ?? volume.vmid) === volume.vmid)
      .map((volume) => ({ row: volumeRow(pve, storage, volume), owner: volume.vmid })),
    ...files.map((file) => ({ row: fileRow(file), owner: undefined })),
  ];
  return {
    data: rows
      .filter(({ row }) => (kind ?? row['content']) === row['content'])
      .filter(
        ({ row, owner }) => missingRight(account, readable, String(row['content']), owner) === undefined,
      )
      .map(({ row }) => row),
  };
}

/** How a plugin names the image that a volume shares blocks with. */
function parentName(storage: WorldStorage, volid: string): string {
  const name = volid.slice(volid.indexOf(':') + 1);
  return holdsFiles(storage) ? `../${name}` : `${name}@__base__`;
}

function volumeRow(pve: Pve, storage: WorldStorage, volume: WorldVolume): Record<string, unknown> {
  const { volid, vmid, sizeGiB, usedGiB, parent } = volume;
  return {
    volid,
    content: contentOf(pve, volume),
    format: holdsFiles(storage) ? 'qcow2' : 'raw',
    size: Math.round(sizeGiB * GIB),
    vmid,
    ...(holdsFiles(storage) ? { used: Math.round(usedGiB * GIB) } : {}),
    ...(parent === undefined ? {} : { parent: parentName(storage, parent) }),
  };
}

/** `rootdir` for the disks of containers; a volume whose guest is gone counts as an image. */
function contentOf(pve: Pve, { vmid }: WorldVolume): 'images' | 'rootdir' {
  return pve.world.guests.get(vmid)?.kind === 'lxc' ? 'rootdir' : 'images';
}

function fileRow(file: WorldFile): Record<string, unknown> {
  const { volid, content } = file;
  return { volid, content, format: formatOf(volid, content), size: sizeOf(file) };
}

function sizeOf({ text, sizeBytes }: WorldFile): number {
  return sizeBytes ?? Buffer.byteLength(text);
}

function formatOf(volid: string, content: string): string {
  if (content === 'snippets') return 'snippet';
  const ending = /\.([a-z0-9]+)$/.exec(volid)?.[1] ?? 'raw';
  if (content === 'vztmpl') return `t${ending}`;
  return content === 'iso' ? 'iso' : ending;
}

/**
 * What the caller lacks to read something of a storage; empty = no right would do. Guests' disks need a right on the guest too, so that
 * those of guests that are gone are hidden from all but the storage's owner.
 */
function missingRight(
  account: Account,
  storage: { readonly id: string; readonly rights: Rights },
  content: string,
  owner: number | undefined,
): string | undefined {
  const { id, rights } = storage;
  if (rights.has('Datastore.Allocate')) return undefined;
  if (content === 'iso' || content === 'vztmpl' || content === 'import')
    return rights.has('Datastore.AllocateSpace') || rights.has('Datastore.Audit')
      ? undefined
      : `/storage/${id}, Datastore.AllocateSpace|Datastore.Audit`;
  if (owner === undefined) return '';
  if (!rights.has('Datastore.Audit')) return `/storage/${id}, Datastore.Audit`;
  return account.at(`/vms/${owner}`).has('VM.Config.Disk') ? undefined : `/vms/${owner}, VM.Config.Disk`;
}

/** The right to give a guest this volume or file; its own need none. */
export function needVolume(
  { pve, account, node }: Pick<PveCall, 'pve' | 'account' | 'node'>,
  vmid: number,
  volid: string,
): void {
  const id = volid.slice(0, Math.max(0, volid.indexOf(':')));
  const content = fileOf(pve, volid, node)?.content ?? contentOfName(volid);
  const owner = volumeOf(pve, volid, node)?.vmid ?? ownerOf(volid);
  if (owner === vmid) return;
  const missing = missingRight(account, { id, rights: account.at(`/storage/${id}`) }, content, owner);
  if (missing === '') throw failure(`missing privileges to access ${volid}`);
  if (missing !== undefined) throw forbidden(missing);
}

/** What a volume of this name would be. */
function contentOfName(volid: string): string {
  return /^[^:]+:(iso|vztmpl|snippets|backup|import)\//.exec(volid)?.[1] ?? 'images';
}

/** The volume of the path: with its storage, or its bare name. */
function volidOf({ path }: PveCall): string {
  const [storage, volume] = [path['storage'] ?? '', path['volume'] ?? ''];
  if (!volume.includes(':')) return `${storage}:${volume}`;
  const named = volume.slice(0, volume.indexOf(':'));
  if (named !== storage) throw parameterErrors({ volume: `storage ID mismatch (${named} != ${storage})\n` });
  return volume;
}

function readVolume(call: PveCall): Handled {
  const { pve, node, account } = call;
  const volid = volidOf(call);
  const storage = usableStorage(pve, volid.slice(0, volid.indexOf(':')), node);
  const volume = volumeOf(pve, volid, node);
  const file = fileOf(pve, volid, node);
  const kind = file?.content ?? (volume ? contentOf(pve, volume) : 'images');
  const readable = { id: storage.id, rights: account.at(`/storage/${storage.id}`) };
  const missing = missingRight(account, readable, kind, volume?.vmid ?? ownerOf(volid));
  if (missing === '') throw failure(`missing privileges to access ${volid}`);
  if (missing !== undefined) throw forbidden(missing);
  if (file) {
    const size = sizeOf(file);
    return { data: { path: pathOf(storage, volid), size, used: size, format: formatOf(volid, kind) } };
  }
  if (!volume) throw failure(`volume_size_info on '${volid}' failed - no format`);
  const [size, used] = [volume.sizeGiB, volume.usedGiB].map((gib) => Math.round(gib * GIB));
  return {
    data: { path: pathOf(storage, volid), size, used, format: holdsFiles(storage) ? 'qcow2' : 'raw' },
  };
}

export function fileOf(pve: Pve, volid: string, node: string): WorldFile | undefined {
  return pve.world.files.get(volid) ?? pve.world.files.get(volumeKey(node, volid));
}

/** The VMID that a disk's name carries. */
function ownerOf(volid: string): number | undefined {
  const text = /(?:vm|base|subvol)-([0-9]+)-[^/]*$/.exec(volid)?.[1];
  return text === undefined ? undefined : Number(text);
}

export function pathOf(storage: WorldStorage, volid: string): string {
  const name = volid.slice(volid.indexOf(':') + 1);
  const own = name.slice(name.lastIndexOf('/') + 1);
  if (storage.type === 'rbd') return `rbd:${storage.id}/${own}:conf=/etc/pve/ceph.conf`;
  if (storage.type === 'zfspool') return `/dev/zvol/${storage.id}/${own}`;
  if (!holdsFiles(storage)) return `/dev/${storage.type === 'lvm' ? storage.id : 'pve'}/${own}`;
  const folder = folderOf(storage);
  if (name.startsWith('snippets/')) return `${folder}/${name}`;
  return /^(iso|vztmpl)\//.test(name)
    ? `${folder}/template/${name.replace('vztmpl', 'cache')}`
    : `${folder}/images/${name}`;
}

/** A task frees it under the storage's lock, whoever uses it: only base images in use are safe. With `delay` the call waits for it. */
async function deleteVolume(call: PveCall): Promise<Handled> {
  const { pve, node, account, params, op, faults } = call;
  const volid = volidOf(call);
  const storage = usableStorage(pve, volid.slice(0, volid.indexOf(':')), node);
  need(account, `/storage/${storage.id}`, 'Datastore.Allocate');
  const owner = volumeOf(pve, volid, node)?.vmid ?? ownerOf(volid);
  const id = `${owner === undefined ? '' : `${owner}@`}${storage.id}`;
  const setup = { node, type: 'imgdel', id, actor: account.id, op, vmid: owner ?? 0, faults };
  const task = pve.tasks.start(setup, async (running) => {
    const user: LockUser = {
      actor: account.id,
      node,
      upid: running.upid,
      signal: running.signal,
      log: (line) => running.log(line),
    };
    const isThere = volumeOf(pve, volid, node) !== undefined || fileOf(pve, volid, node) !== undefined;
    if ([...pve.world.volumes.values()].some(({ parent }) => parent === volid))
      throw failure(`base volume '${volid.slice(volid.indexOf(':') + 1)}' is still in use by linked clones`);
    await free(pve, user, volid, owner ?? 0);
    pve.world.files.delete(volumeKey(storage.shared ? undefined : node, volid));
    running.log(`Removed volume '${volid}'`);
    return { effect: isThere, params: { freed: isThere ? [volid] : [] } };
  });
  const handled = { data: task.upid, journal: { upid: task.upid } };
  for (let waitedMs = 0; waitedMs < (params.number('delay') ?? 0) * 1_000; waitedMs += 1_000) {
    await pve.context.clock.sleep(1_000);
    if (task.exitStatus === 'OK') return { ...handled, data: null };
    if (task.exitStatus !== undefined) throw failure(task.exitStatus);
  }
  return handled;
}
