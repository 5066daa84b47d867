import type { WorldHaMove, WorldHaResource } from '../world.js';
import type { ParamSpec } from './check-value.js';
import {
  CHANGE,
  changeHa,
  checkDigest,
  COMMENT,
  CONFIG_ID,
  digestOf,
  permitRead,
  permitWrite,
} from './ha-config.js';
import { queueMove } from './ha-request.js';
import { FORMATS } from './formats.js';
import { OPTIONAL_COUNT } from './params.js';
import type { Handled, Pve, PveCall, Route } from './pve.js';
import { failure } from './wire.js';

const SID: ParamSpec = {
  type: 'string',
  format: (value) => (/^(vm:|ct:)?[1-9][0-9]{2,8}$/.test(value) ? undefined : `unable to parse '${value}'`),
};
const KINDS: ParamSpec = { type: 'string', optional: true, enum: ['ct', 'vm'] };
const SETTINGS: Readonly<Record<string, ParamSpec>> = {
  comment: COMMENT,
  failback: { type: 'boolean', optional: true, version: '9.1' },
  group: { ...CONFIG_ID, optional: true },
  max_relocate: OPTIONAL_COUNT,
  max_restart: OPTIONAL_COUNT,
  state: { type: 'string', optional: true, enum: ['started', 'stopped', 'enabled', 'disabled', 'ignored'] },
};
const ONE = '/cluster/ha/resources/{sid}';

export const haResourceRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/cluster/ha',
    op: 'ha.index',
    kind: 'read',
    params: {},
    permit: permitRead,
    handle: ({ pve }) => ({
      data: [...(pve.world.version === '9.1' ? ['rules'] : []), 'status', 'resources', 'groups'].map(
        (id) => ({ id }),
      ),
    }),
  },
  {
    method: 'GET',
    path: '/cluster/ha/status/current',
    op: 'ha.status',
    kind: 'read',
    params: {},
    permit: permitRead,
    handle: ({ pve }) => ({ data: statusRows(pve) }),
  },
  {
    method: 'GET',
    path: '/cluster/ha/resources',
    op: 'ha.resources.list',
    kind: 'read',
    params: { type: KINDS },
    permit: permitRead,
    handle({ pve, params }) {
      const type = params.text('type');
      const sids = [...pve.world.ha.resources.keys()];
      return {
        data: sids.filter((sid) => !type || sid.startsWith(`${type}:`)).map((sid) => rowOf(pve, sid)),
      };
    },
  },
  {
    method: 'POST',
    path: '/cluster/ha/resources',
    op: 'ha.resources.create',
    kind: 'config-write',
    params: { sid: SID, type: KINDS, ...SETTINGS },
    permit: permitWrite,
    handle: create,
  },
  {
    method: 'GET',
    path: ONE,
    op: 'ha.resources.get',
    kind: 'read',
    params: { sid: SID },
    permit: permitRead,
    handle: ({ pve, path }) => ({ data: rowOf(pve, parseSid(pve, path['sid'] ?? '')) }),
  },
  {
    method: 'PUT',
    path: ONE,
    op: 'ha.resources.update',
    kind: 'config-write',
    params: { sid: SID, ...SETTINGS, ...CHANGE },
    permit: permitWrite,
    handle: update,
  },
  moveRoute('migrate'),
  moveRoute('relocate'),
  {
    method: 'DELETE',
    path: ONE,
    op: 'ha.resources.delete',
    kind: 'config-write',
    params: { sid: SID, purge: { type: 'boolean', optional: true, version: '9.1' } },
    permit: permitWrite,
    handle: remove,
  },
];

/** A bare VMID means the guest that has it. */
function parseSid(pve: Pve, text: string): string {
  if (text.includes(':')) return text;
  const guest = pve.world.guests.get(Number(text));
  if (!guest) throw failure(`unable to find resource type for VMID ${text}`);
  return `${guest.kind === 'qemu' ? 'vm' : 'ct'}:${text}`;
}

function rowOf(pve: Pve, sid: string): Record<string, unknown> {
  const { resources } = pve.world.ha;
  const resource = resources.get(sid);
  if (!resource) throw failure(`no such resource '${sid}'`);
  const { state, maxRestart, maxRelocate, failback, comment, group } = resource;
  return {
    sid,
    type: sid.slice(0, 2),
    state,
    max_restart: maxRestart,
    max_relocate: maxRelocate,
    digest: digestOf(resources),
    ...(pve.world.version === '9.1' ? { failback: failback ? 1 : 0 } : {}),
    ...(comment === undefined ? {} : { comment }),
    ...(group === undefined ? {} : { group }),
  };
}

/** Groups are gone in 9, and in 8 the one that is named must be there. */
function checkGroup(pve: Pve, group: string | undefined): void {
  if (group === undefined) return;
  if (pve.world.version === '9.1')
    throw failure("invalid parameter 'group': ha groups have been migrated to rules");
  if (!pve.world.ha.groups.has(group)) throw failure(`HA group '${group}' does not exist`);
}

function create(call: PveCall): Promise<Handled> {
  const { pve, params } = call;
  const sid = parseSid(pve, params.need('sid'));
  const [type, id] = sid.split(':');
  if (params.has('type') && params.text('type') !== type) throw failure('types does not match');
  checkGroup(pve, params.text('group'));
  const guest = pve.world.guests.get(Number(id));
  if ((guest?.kind === 'qemu' ? 'vm' : 'ct') !== type || !guest)
    throw failure(`resource '${sid}' does not exists in cluster`);
  return changeHa(call, 'create resource', () => {
    if (pve.world.ha.resources.has(sid)) throw failure(`resource ID '${sid}' already defined`);
    const resource: WorldHaResource = {
      state: 'started',
      maxRestart: 1,
      maxRelocate: 1,
      failback: true,
      comment: undefined,
      group: undefined,
    };
    apply(call, resource);
    pve.world.ha.resources.set(sid, resource);
  });
}

function update(call: PveCall): Promise<Handled> {
  const { pve, params, path } = call;
  const sid = parseSid(pve, path['sid'] ?? '');
  checkGroup(pve, params.text('group'));
  if (pve.ha.isInError(sid) && params.has('state') && params.text('state') !== 'disabled')
    throw failure(`service '${sid}' in error state, must be disabled and fixed first`);
  return changeHa(call, 'update resource', () => {
    const { resources } = pve.world.ha;
    checkDigest(params.text('digest'), resources);
    const resource = resources.get(sid);
    if (!resource) throw failure(`no such resource '${sid}'`);
    apply(call, resource);
    for (const key of params.list('delete')) {
      if (!Object.hasOwn(SETTINGS, key)) throw failure(`no such option '${key}'`);
      if (key === 'comment' || key === 'group') resource[key] = undefined;
      if (key === 'max_restart') resource.maxRestart = 1;
      if (key === 'max_relocate') resource.maxRelocate = 1;
      if (key === 'state') resource.state = 'started';
      if (key === 'failback') resource.failback = true;
    }
    if (resource.state === 'disabled') pve.ha.clearError(sid);
  });
}

function apply({ params }: PveCall, resource: WorldHaResource): void {
  const state = params.text('state') as WorldHaResource['state'] | 'enabled' | undefined;
  if (state !== undefined) resource.state = state === 'enabled' ? 'started' : state;
  resource.maxRestart = params.number('max_restart') ?? resource.maxRestart;
  resource.maxRelocate = params.number('max_relocate') ?? resource.maxRelocate;
  resource.failback = params.flag('failback') ?? resource.failback;
  resource.comment = params.text('comment') ?? resource.comment;
  resource.group = params.text('group') ?? resource.group;
}

function remove(call: PveCall): Promise<Handled> {
  const { pve, path } = call;
  const sid = parseSid(pve, path['sid'] ?? '');
  if (!pve.world.ha.resources.has(sid)) throw failure(`cannot delete service '${sid}', not HA managed!`);
  return changeHa(call, 'delete resource', () => pve.ha.forget(sid));
}

function moveRoute(how: WorldHaMove['how']): Route {
  return {
    method: 'POST',
    path: `${ONE}/${how}`,
    op: `ha.resources.${how}`,
    kind: 'config-write',
    params: { sid: SID, node: { type: 'string', format: FORMATS['pve-node'] } },
    permit: permitWrite,
    handle: (call) => move(call, how),
  };
}

/** Asks for it; what is in the way, or goes along, is told by 9. */
async function move(
  { pve, account, node, params, path }: PveCall,
  how: WorldHaMove['how'],
): Promise<Handled> {
  const [sid, target] = [parseSid(pve, path['sid'] ?? ''), params.need('node')];
  const { companions, blockers } = await queueMove(
    pve,
    { actor: account.id, node },
    { sid, how, node: target },
  );
  const answer = {
    sid,
    'requested-node': target,
    ...(blockers.length > 0 && { 'blocking-resources': blockers }),
    ...(blockers.length === 0 && companions.length > 0 && { 'comigrated-resources': companions }),
  };
  return { data: pve.world.version === '9.1' ? answer : null };
}

function statusRows(pve: Pve): unknown[] {
  const { nodes, conditions, guests, ha } = pve.world;
  const quorum = conditions.quorumLost
    ? { status: 'No quorum on node', quorate: 0 }
    : { status: 'OK', quorate: 1 };
  const master = nodes.find(({ name }) => !conditions.nodesOff.has(name));
  return [
    { id: 'quorum', type: 'quorum', node: master?.name, ...quorum },
    { id: 'master', type: 'master', node: master?.name, status: `${master?.name} (active)` },
    ...nodes.map(({ name }) => ({
      id: `lrm:${name}`,
      type: 'lrm',
      node: name,
      status: `${name} (${conditions.nodesOff.has(name) ? 'old timestamp - dead?' : 'active'})`,
    })),
    ...[...ha.resources].flatMap(([sid, { state }]) => {
      const guest = guests.get(Number(sid.slice(3)));
      if (!guest) return [];
      const now = pve.ha.stateOf(guest.vmid);
      return [
        {
          id: `service:${sid}`,
          type: 'service',
          sid,
          node: guest.node,
          state: now,
          request_state: state,
          status: `${sid} (${guest.node}, ${now})`,
        },
      ];
    }),
  ];
}
