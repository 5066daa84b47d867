import { poolOf, type WorldPool } from '../world.js';
import { changeUserConfig } from './access-config.js';
import { need, needAny, type Account } from './auth.js';
import { FORMATS } from './formats.js';
import { OPTIONAL_FLAG, OPTIONAL_TEXT, type ParamSpecs } from './params.js';
import type { Handled, Pve, PveCall, Route } from './pve.js';
import { guestRow, storageRow } from './resources.js';
import { isOn } from './volumes.js';
import { failure } from './wire.js';

const POOL_ID = { type: 'string', format: FORMATS['pve-poolid'] } as const;
const MEMBER_TYPE = { type: 'string', optional: true, enum: ['qemu', 'lxc', 'storage'] } as const;
const CHANGES: ParamSpecs = {
  vms: { type: 'string', list: true, optional: true, format: FORMATS['pve-vmid'] },
  storage: { type: 'string', list: true, optional: true, format: FORMATS['pve-storage-id'] },
  delete: OPTIONAL_FLAG,
  'allow-move': OPTIONAL_FLAG,
  comment: OPTIONAL_TEXT,
};

/** The pool is in the path, or (nested ones only there) a parameter. */
const permitWrite: Route['permit'] = (account, path, raw) =>
  need(account, `/pool/${path['poolid'] ?? raw('poolid') ?? ''}`, 'Pool.Allocate');
const idOf = ({ path, params }: PveCall): string => path['poolid'] ?? params.need('poolid');

export const poolRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/pools',
    op: 'pools.get',
    kind: 'read',
    params: { poolid: { ...POOL_ID, optional: true }, type: { ...MEMBER_TYPE, requires: 'poolid' } },
    handle: listPools,
  },
  {
    method: 'GET',
    path: '/pools/{poolid}',
    op: 'pools.get',
    kind: 'read',
    params: { type: MEMBER_TYPE },
    permit: (account, path) => need(account, `/pool/${path['poolid']}`, 'Pool.Audit'),
    handle: (call) => ({ data: contentOf(call, idOf(call)) }),
  },
  {
    method: 'POST',
    path: '/pools',
    op: 'pools.create',
    kind: 'config-write',
    params: { poolid: POOL_ID, comment: OPTIONAL_TEXT },
    permit: permitWrite,
    handle: createPool,
  },
  ...['/pools', '/pools/{poolid}'].flatMap((path): Route[] => {
    const own: ParamSpecs = path === '/pools' ? { poolid: POOL_ID } : {};
    return [
      {
        method: 'PUT',
        path,
        op: 'pools.put',
        kind: 'config-write',
        params: { ...own, ...CHANGES },
        permit: permitWrite,
        handle: changePool,
      },
      {
        method: 'DELETE',
        path,
        op: 'pools.delete',
        kind: 'config-write',
        params: own,
        permit: permitWrite,
        handle: deletePool,
      },
    ];
  }),
];

function poolNamed(pve: Pve, name: string): WorldPool {
  const pool = pve.world.pools.get(name);
  if (!pool) throw failure(`pool '${name}' does not exist`);
  return pool;
}

function listPools(call: PveCall): Handled {
  const { pve, account, params } = call;
  const wanted = params.text('poolid');
  if (wanted !== undefined) {
    need(account, `/pool/${wanted}`, 'Pool.Audit');
    return { data: [{ poolid: wanted, ...contentOf(call, wanted) }] };
  }
  const seen = [...pve.world.pools].filter(([name]) => account.at(`/pool/${name}`).has('Pool.Audit'));
  return {
    data: seen
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([poolid, { comment }]) => ({ poolid, ...(comment === '' ? {} : { comment }) })),
  };
}

/** Its members as the resource list shows them. Whoever may audit the pool sees all of them. */
function contentOf({ pve, node, worker, params }: PveCall, name: string): Record<string, unknown> {
  const { comment, members, storages } = poolNamed(pve, name);
  const told = pve.broadcast.read(`${node}/${worker}`);
  const type = params.text('type');
  const guests = [...members].sort((a, b) => a - b).flatMap((vmid) => pve.world.guests.get(vmid) ?? []);
  const stores = [...storages].flatMap((id) => pve.world.storages.find((storage) => storage.id === id) ?? []);
  return {
    ...(comment === '' ? {} : { comment }),
    members: [
      ...guests.filter(({ kind }) => (type ?? kind) === kind).map((guest) => guestRow(pve, guest, told)),
      ...((type ?? 'storage') === 'storage' ? stores : []).map((storage) =>
        storageRow(storage.id, isOn(storage, node) ? node : (storage.nodes?.[0] ?? node), pve, told),
      ),
    ],
  };
}

async function createPool(call: PveCall): Promise<Handled> {
  const { pools } = call.pve.world;
  const name = idOf(call);
  const handled = await changeUserConfig(call, 'create pool failed', () => {
    if (pools.has(name)) throw failure(`pool '${name}' already exists`);
    const parent = /^(.*)\/[^/]+$/.exec(name)?.[1];
    if (parent !== undefined && !pools.has(parent))
      throw failure(`parent '${parent}' of pool '${name}' does not exist`);
    pools.set(name, {
      comment: call.params.text('comment') ?? '',
      members: new Set(),
      storages: new Set(),
    });
  });
  return { ...handled, journal: { effect: true, params: { pool: name } } };
}

/** All or nothing: the file is written when every change was found right. */
async function changePool(call: PveCall): Promise<Handled> {
  const { pve, params, account } = call;
  const name = idOf(call);
  const vmids = params.list('vms').map(Number);
  const handled = await changeUserConfig(call, 'update pools failed', () => {
    const pool = poolNamed(pve, name);
    for (const vmid of vmids) {
      needModify(account, `/vms/${vmid}`, 'VM.Allocate');
      checkGuest(call, name, vmid);
    }
    for (const id of params.list('storage')) {
      needModify(account, `/storage/${id}`, 'Datastore.Allocate');
      checkStorage(call, pool, id);
    }
    for (const vmid of vmids) {
      for (const other of pve.world.pools.values()) other.members.delete(vmid);
      if (!params.flag('delete')) pool.members.add(vmid);
    }
    for (const id of params.list('storage'))
      if (params.flag('delete')) pool.storages.delete(id);
      else pool.storages.add(id);
    pool.comment = params.text('comment') ?? pool.comment;
  });
  const [added, removed] = params.flag('delete') ? [[], vmids] : [vmids, []];
  return { ...handled, journal: { effect: true, params: { pool: name, added, removed } } };
}

/** Who puts something into a pool gives rights on it away. */
function needModify(account: Account, path: string, privilege: string): void {
  needAny(account, path, 'Permissions.Modify', privilege);
}

function checkGuest({ pve, params }: PveCall, name: string, vmid: number): void {
  const now = poolOf(pve.world, vmid);
  if (params.flag('delete')) {
    if (now !== name) throw failure(`VM ${vmid} is not a pool member`);
    return;
  }
  if (now === name) throw failure(`VM ${vmid} is already a pool member`);
  if (now !== undefined && !params.flag('allow-move'))
    throw failure(`VM ${vmid} belongs already to pool '${now}' and 'allow-move' is not set`);
}

function checkStorage({ params }: PveCall, { storages }: WorldPool, id: string): void {
  if (params.flag('delete') && !storages.has(id)) throw failure(`Storage '${id}' is not a pool member`);
  if (!params.flag('delete') && storages.has(id)) throw failure(`Storage '${id}' is already a pool member`);
}

async function deletePool(call: PveCall): Promise<Handled> {
  const { world } = call.pve;
  const name = idOf(call);
  const handled = await changeUserConfig(call, 'delete pool failed', () => {
    const { members, storages } = poolNamed(call.pve, name);
    const nested = [...world.pools.keys()].find((other) => other.startsWith(`${name}/`));
    const guest = [...members].sort((a, b) => a - b).find((vmid) => world.guests.has(vmid));
    const storage = [...storages].find((id) => world.storages.some((one) => one.id === id));
    if (nested !== undefined) throw failure(`pool '${name}' is not empty (contains pool ${nested})`);
    if (guest !== undefined) throw failure(`pool '${name}' is not empty (contains VM ${guest})`);
    if (storage !== undefined) throw failure(`pool '${name}' is not empty (contains storage '${storage}')`);
    world.pools.delete(name);
    world.acl = world.acl.filter(({ path }) => path !== `/pool/${name}`);
  });
  return { ...handled, journal: { effect: true, params: { pool: name } } };
}
