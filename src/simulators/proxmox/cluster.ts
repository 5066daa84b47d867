import { need } from './auth.js';
import { CLUSTER_INDEX } from './indexes.js';
import { VMID } from './params.js';
import type { Handled, Pve, PveCall, Route } from './pve.js';
import { failure, parameterErrors } from './wire.js';

/** What `version` answers. */
export const RELEASES = {
  '8.4': { version: '8.4.14', release: '8.4', repoid: 'b502d23c55afcba1' },
  '9.1': { version: '9.1.11', release: '9.1', repoid: '51c1ae1f0c1a3ae9' },
} as const;

export const clusterRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/version',
    op: 'version',
    kind: 'read',
    params: {},
    handle: ({ pve }) => ({ data: RELEASES[pve.world.version] }),
  },
  {
    method: 'GET',
    path: '/cluster',
    op: 'cluster.index',
    kind: 'read',
    params: {},
    handle: ({ pve }) => ({ data: CLUSTER_INDEX(pve.world.version) }),
  },
  {
    method: 'GET',
    path: '/cluster/status',
    op: 'cluster.status',
    kind: 'protected-read',
    params: {},
    permit: (account) => need(account, '/', 'Sys.Audit'),
    handle: ({ pve, local }) => ({ data: statusRows(pve, local) }),
  },
  {
    method: 'GET',
    path: '/cluster/nextid',
    op: 'cluster.nextid',
    kind: 'read',
    params: { vmid: { ...VMID, optional: true } },
    handle: nextId,
  },
  {
    method: 'GET',
    path: '/cluster/options',
    op: 'cluster.options',
    kind: 'read',
    params: {},
    permit: (account) => need(account, '/', 'Sys.Audit'),
    handle({ pve }) {
      const [lower, upper] = pve.world.nextId;
      return { data: { keyboard: 'en-us', 'next-id': { lower: String(lower), upper: String(upper) } } };
    },
  },
  {
    method: 'GET',
    path: '/cluster/tasks',
    op: 'cluster.tasks',
    kind: 'read',
    params: {},
    handle: listTasks,
  },
];

function statusRows({ world }: Pve, local: string): unknown[] {
  const { nodesOff, quorumLost } = world.conditions;
  const nodes = world.nodes.map(({ name }, index) => ({
    type: 'node',
    id: `node/${name}`,
    name,
    nodeid: index + 1,
    ip: `10.10.0.${index + 11}`,
    online: nodesOff.has(name) ? 0 : 1,
    local: name === local ? 1 : 0,
    level: '',
  }));
  const cluster = {
    type: 'cluster',
    id: 'cluster',
    name: world.cluster,
    nodes: nodes.length,
    quorate: quorumLost ? 0 : 1,
    version: nodes.length,
  };
  return [cluster, ...nodes];
}

/** Reserves nothing. Says VM for containers too. */
function nextId({ pve, params }: PveCall): Handled {
  const asked = params.number('vmid');
  if (asked !== undefined) {
    if (pve.world.guests.has(asked)) throw parameterErrors({ vmid: `VM ${asked} already exists` });
    return { data: String(asked) };
  }
  const [lower, upper] = pve.world.nextId;
  for (let id = lower; id < upper; id += 1) if (!pve.world.guests.has(id)) return { data: String(id) };
  throw failure(`unable to get any free VMID in range [${lower}, ${upper}]`);
}

/** What each node last told of its active tasks. The owner is compared without the token's name, so that a token never finds its own. */
function listTasks({ pve, account }: PveCall): Handled {
  const rows = pve.world.nodes.flatMap(({ name }) => pve.tasks.activeOf(name));
  const mayAll = account.at('/').has('Sys.Audit');
  return { data: rows.filter((row) => mayAll || row['user'] === account.id) };
}
