import type { WorldStorage } from '../world.js';
import { needAny, type Account } from './auth.js';
import { OPTIONAL_FLAG, OPTIONAL_TEXT, VMID } from './params.js';
import type { Handled, PveCall, Route } from './pve.js';
import { storageOf, usedGiB } from './volumes.js';

const GIB = 1_073_741_824;
const seen = ['Datastore.Audit', 'Datastore.AllocateSpace'];

export const storageRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/nodes/{node}/storage',
    op: 'storage.list',
    kind: 'protected-read',
    params: {
      storage: OPTIONAL_TEXT,
      content: OPTIONAL_TEXT,
      enabled: OPTIONAL_FLAG,
      target: OPTIONAL_TEXT,
      format: OPTIONAL_FLAG,
    },
    handle: listStorages,
  },
  {
    method: 'GET',
    path: '/nodes/{node}/storage/{storage}/content',
    op: 'storage.content',
    kind: 'storage-content',
    params: { content: OPTIONAL_TEXT, vmid: { ...VMID, optional: true } },
    permit: (account, path) => needAny(account, `/storage/${path['storage']}`, ...seen),
    handle: listContent,
  },
];

function listStorages({ pve, node, account, params }: PveCall): Handled {
  const wanted = params.text('content')?.split(',');
  const isShown = (storage: WorldStorage): boolean =>
    maySee(account, storage) &&
    (!params.has('storage') || params.text('storage') === storage.id) &&
    (wanted === undefined || wanted.some((kind) => kind === 'images' || kind === 'rootdir'));
  const data = pve.world.storages.filter(isShown).map((storage) => {
    const total = storage.sizeGiB * GIB;
    const used = Math.round(usedGiB(pve, storage, node) * GIB);
    return {
      storage: storage.id,
      type: storage.type,
      content: 'images,rootdir',
      active: 1,
      enabled: 1,
      shared: storage.shared ? 1 : 0,
      total,
      used,
      avail: total - used,
      used_fraction: used / total,
    };
  });
  return { data };
}

function maySee(account: Account, storage: WorldStorage): boolean {
  return seen.some((privilege) => account.at(`/storage/${storage.id}`).has(privilege));
}

/** Ceph lists the whole pool, so it takes longer with every image. */
async function listContent({ pve, node, path, params, account }: PveCall): Promise<Handled> {
  const storage = storageOf(pve, path['storage'] ?? '');
  const all = [...pve.world.volumes.values()].filter(
    (volume) => volume.storage === storage.id && (storage.shared || volume.node === node),
  );
  if (storage.type === 'rbd') await pve.context.clock.sleep(150 + 5 * all.length);
  const vmid = params.number('vmid');
  const mayAll = account.at(`/storage/${storage.id}`).has('Datastore.Allocate');
  const data = all
    .filter((volume) => vmid === undefined || volume.vmid === vmid)
    .filter((volume) => mayAll || account.at(`/vms/${volume.vmid}`).has('VM.Audit'))
    .map((volume) => ({
      volid: volume.volid,
      content: 'images',
      format: storage.type === 'nfs' || storage.type === 'dir' ? 'qcow2' : 'raw',
      size: Math.round(volume.sizeGiB * GIB),
      vmid: volume.vmid,
      ...(volume.parent === undefined ? {} : { parent: volume.parent.slice(volume.parent.indexOf(':') + 1) }),
    }));
  return { data };
}
