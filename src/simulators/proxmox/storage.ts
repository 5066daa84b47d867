import { createHash } from 'node:crypto';
import { holdsFiles, STORAGE_CONTENTS, STORAGE_TYPES, type WorldStorage } from '../world.js';
import { need, needAny, type Account } from './auth.js';
import type { ParamSpec } from './check-value.js';
import { FORMATS } from './formats.js';
import { STORAGE_INDEX } from './indexes.js';
import { OPTIONAL_FLAG } from './params.js';
import type { Handled, PveCall, Route } from './pve.js';
import { folderOf, isOn, storageOf, usedGiB } from './volumes.js';
import { parameterErrors } from './wire.js';

const GIB = 1_073_741_824;
const READERS = ['Datastore.Audit', 'Datastore.AllocateSpace'];

const KNOWN_TYPES = [...STORAGE_TYPES, 'btrfs', 'esxi', 'iscsi', 'iscsidirect', 'pbs', 'zfs'].sort();

/** Names of everything that may lie on some storage. */
export const CONTENT: ParamSpec = {
  type: 'string',
  optional: true,
  format: (value) =>
    [...STORAGE_CONTENTS, 'none'].includes(value) ? undefined : `invalid content type '${value}'`,
};

export const permitReaders: Route['permit'] = (account, path) =>
  needAny(account, `/storage/${path['storage']}`, ...READERS);

export const storageRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/storage',
    op: 'storage.definitions',
    kind: 'read',
    params: { type: { type: 'string', optional: true, enum: KNOWN_TYPES } },
    handle({ pve, account, params }) {
      const type = params.text('type');
      const seen = pve.world.storages.filter(
        (storage) => maySee(account, storage) && (type ?? storage.type) === storage.type,
      );
      return { data: seen.map((storage) => definitionOf(storage, pve.world.storages)) };
    },
  },
  {
    method: 'GET',
    path: '/storage/{storage}',
    op: 'storage.definition',
    kind: 'read',
    params: {},
    permit: (account, path) => need(account, `/storage/${path['storage']}`, 'Datastore.Allocate'),
    handle: ({ pve, path }) => ({
      data: definitionOf(storageOf(pve, path['storage'] ?? ''), pve.world.storages),
    }),
  },
  {
    method: 'GET',
    path: '/nodes/{node}/storage',
    op: 'storage.list',
    kind: 'protected-read',
    params: {
      storage: { type: 'string', optional: true, format: FORMATS['pve-storage-id'] },
      content: { ...CONTENT, list: true },
      enabled: OPTIONAL_FLAG,
      target: { type: 'string', optional: true, format: FORMATS['pve-node'] },
      format: OPTIONAL_FLAG,
    },
    handle: listStorages,
  },
  {
    method: 'GET',
    path: '/nodes/{node}/storage/{storage}',
    op: 'storage.index',
    kind: 'read',
    params: {},
    local: true,
    permit: permitReaders,
    handle: ({ pve }) => ({ data: STORAGE_INDEX(pve.world.version).map(({ name }) => ({ subdir: name })) }),
  },
  {
    method: 'GET',
    path: '/nodes/{node}/storage/{storage}/status',
    op: 'storage.status',
    kind: 'protected-read',
    params: {},
    permit: permitReaders,
    handle(call) {
      const storage = call.pve.world.storages.find(({ id }) => id === call.path['storage']);
      if (!storage || !isUsable(storage, call.node)) throw parameterErrors({ storage: 'No such storage.' });
      return { data: statusOf(call, storage) };
    },
  },
];

function isUsable(storage: WorldStorage, node: string): boolean {
  return !storage.isDisabled && isOn(storage, node);
}

function maySee(account: Account, storage: WorldStorage): boolean {
  return READERS.some((privilege) => account.at(`/storage/${storage.id}`).has(privilege));
}

/** As storage.cfg has it. */
function definitionOf(storage: WorldStorage, all: readonly WorldStorage[]): Record<string, unknown> {
  const { id, type, shared, content, nodes, isDisabled } = storage;
  const where =
    type === 'rbd' || type === 'zfspool'
      ? { pool: id }
      : type === 'lvm'
        ? { vgname: id }
        : type === 'lvmthin'
          ? { vgname: 'pve', thinpool: 'data' }
          : { path: folderOf(storage) };
  return {
    storage: id,
    type,
    content: content.join(','),
    ...where,
    ...(shared ? { shared: 1 } : {}),
    ...(nodes ? { nodes: nodes.join(',') } : {}),
    ...(isDisabled ? { disable: 1 } : {}),
    digest: createHash('sha1').update(JSON.stringify(all)).digest('hex'),
  };
}

/** Those that this node has; with a `target` only shared ones that both have. */
function listStorages(call: PveCall): Handled {
  const { pve, node, account, params } = call;
  const wanted = params.list('content');
  const holds = ({ content }: WorldStorage): boolean =>
    wanted.length === 0 || content.some((kind) => wanted.includes(kind));
  const here = pve.world.storages.filter((storage) => isUsable(storage, node) && holds(storage));
  const only = params.text('storage');
  if (only !== undefined && !here.some(({ id }) => id === only))
    throw parameterErrors({ storage: 'No such storage.' });
  const target = params.text('target') ?? node;
  const seen = here.filter(
    (storage) =>
      maySee(account, storage) &&
      (only ?? storage.id) === storage.id &&
      (target === node || target === 'localhost' || (storage.shared && isOn(storage, target))),
  );
  return {
    data: seen.map((storage) => {
      const status = statusOf(call, storage);
      const fraction = Number(status['used']) / Number(status['total']);
      return {
        storage: storage.id,
        ...status,
        used_fraction: fraction,
        ...(params.flag('format') ? formatsOf(storage, pve.world.version) : {}),
      };
    }),
  };
}

function statusOf({ pve, node }: PveCall, storage: WorldStorage): Record<string, unknown> {
  const total = Math.round(storage.sizeGiB * GIB);
  const used = Math.round(usedGiB(pve, storage, node) * GIB);
  return {
    type: storage.type,
    content: storage.content.join(','),
    active: 1,
    enabled: 1,
    shared: storage.shared ? 1 : 0,
    total,
    used,
    avail: Math.max(0, total - used),
  };
}

function formatsOf(storage: WorldStorage, version: '8.4' | '9.1'): Record<string, unknown> {
  const supported = holdsFiles(storage) ? ['qcow2', 'raw', 'subvol', 'vmdk'] : ['raw'];
  const [best] = supported;
  return {
    format: [Object.fromEntries(supported.map((one) => [one, 1])), best],
    ...(version === '9.1' ? { formats: { supported, default: best } } : {}),
  };
}
