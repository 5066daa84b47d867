import { need, needAny } from './auth.js';
import { drawMs } from './durations.js';
import { OPTIONAL_FLAG, OPTIONAL_TEXT, TEXT } from './params.js';
import { poolOf } from '../world.js';
import type { Handled, Pve, PveCall, Route } from './pve.js';
import { failure } from './wire.js';

const CHANGES = {
  vms: OPTIONAL_TEXT,
  storage: OPTIONAL_TEXT,
  delete: OPTIONAL_FLAG,
  'allow-move': OPTIONAL_FLAG,
  comment: OPTIONAL_TEXT,
};

export const poolRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/pools',
    op: 'pools.get',
    kind: 'read',
    params: {
      poolid: OPTIONAL_TEXT,
      type: { type: 'string', optional: true, enum: ['qemu', 'lxc', 'storage'] },
    },
    handle: listPools,
  },
  {
    method: 'GET',
    path: '/pools/{poolid}',
    op: 'pools.get',
    kind: 'read',
    params: {},
    permit: (account, path) => need(account, `/pool/${path['poolid']}`, 'Pool.Audit'),
    handle: ({ pve, path }) => ({
      data: {
        comment: poolNamed(pve, path['poolid'] ?? '').comment,
        members: membersOf(pve, path['poolid'] ?? ''),
      },
    }),
  },
  {
    method: 'PUT',
    path: '/pools',
    op: 'pools.put',
    kind: 'config-write',
    params: { poolid: TEXT, ...CHANGES },
    permit: (account, _, raw) => need(account, `/pool/${raw('poolid') ?? ''}`, 'Pool.Allocate'),
    handle: (call) => changePool(call, call.params.need('poolid')),
  },
  {
    method: 'PUT',
    path: '/pools/{poolid}',
    op: 'pools.put',
    kind: 'config-write',
    params: CHANGES,
    permit: (account, path) => need(account, `/pool/${path['poolid']}`, 'Pool.Allocate'),
    handle: (call) => changePool(call, call.path['poolid'] ?? ''),
  },
];

function poolNamed(pve: Pve, name: string): { comment: string; members: Set<number> } {
  const pool = pve.world.pools.get(name);
  if (!pool) throw failure(`pool '${name}' does not exist`);
  return pool;
}

function membersOf(pve: Pve, name: string): unknown[] {
  return [...poolNamed(pve, name).members].flatMap((vmid) => {
    const guest = pve.world.guests.get(vmid);
    return guest
      ? [{ id: `${guest.kind}/${vmid}`, type: guest.kind, vmid, node: guest.node, status: guest.status }]
      : [];
  });
}

function listPools({ pve, account, params }: PveCall): Handled {
  const wanted = params.text('poolid');
  if (wanted !== undefined) {
    needAny(account, `/pool/${wanted}`, 'Pool.Audit');
    return {
      data: [{ poolid: wanted, comment: poolNamed(pve, wanted).comment, members: membersOf(pve, wanted) }],
    };
  }
  const seen = [...pve.world.pools].filter(([name]) => account.at(`/pool/${name}`).has('Pool.Audit'));
  return { data: seen.map(([poolid, { comment }]) => ({ poolid, ...(comment === '' ? {} : { comment }) })) };
}

async function changePool(call: PveCall, name: string): Promise<Handled> {
  const { pve, params, account, node } = call;
  const vmids = (params.text('vms') ?? '')
    .split(/[,; ]+/)
    .filter((text) => text !== '')
    .map(Number);
  for (const vmid of vmids) need(account, `/vms/${vmid}`, 'VM.Allocate');
  return pve.locks.with({ actor: account.id, node }, 'file-user_cfg', async (signal) => {
    const pool = poolNamed(pve, name);
    await pve.context.clock.sleep(drawMs(pve.context, 'cluster-write', name), signal);
    for (const vmid of vmids)
      checkMember(pve, name, vmid, params.flag('delete') ?? false, params.flag('allow-move') ?? false);
    for (const vmid of vmids) {
      for (const other of pve.world.pools.values()) other.members.delete(vmid);
      if (!params.flag('delete')) pool.members.add(vmid);
    }
    const comment = params.text('comment');
    if (comment !== undefined) pool.comment = comment;
    const [added, removed] = params.flag('delete') ? [[], vmids] : [vmids, []];
    return { data: null, journal: { effect: true, params: { pool: name, added, removed } } };
  });
}

function checkMember(pve: Pve, name: string, vmid: number, isRemoval: boolean, mayMove: boolean): void {
  const now = poolOf(pve.world, vmid);
  if (isRemoval) {
    if (now !== name) throw failure(`update pools failed: VM ${vmid} is not a pool member`);
    return;
  }
  if (now === name) throw failure(`update pools failed: VM ${vmid} is already a pool member`);
  if (now !== undefined && !mayMove)
    throw failure(
      `update pools failed: VM ${vmid} belongs already to pool '${now}' and 'allow-move' is not set`,
    );
}
