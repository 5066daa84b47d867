import type { WorldGuest } from '../world.js';
import { poolOf } from '../world.js';
import type { Account } from './auth.js';
import { need } from './auth.js';
import { VMID } from './params.js';
import type { Handled, Pve, PveCall, Route } from './pve.js';
import { sizesOf } from './qemu.js';
import { usedGiB } from './volumes.js';
import { failure, parameterErrors } from './wire.js';

const GIB = 1_073_741_824;
const MIB = 1_048_576;
const FIRST_ID = 100;
const LAST_ID = 999_999;

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
    path: '/cluster/status',
    op: 'cluster.status',
    kind: 'protected-read',
    params: {},
    permit: (account) => need(account, '/', 'Sys.Audit'),
    handle: ({ pve, local }) => ({ data: statusRows(pve, local) }),
  },
  {
    method: 'GET',
    path: '/cluster/resources',
    op: 'cluster.resources',
    kind: 'read',
    params: { type: { type: 'string', optional: true, enum: ['vm', 'storage', 'node', 'sdn'] } },
    handle: ({ pve, account, params }) => ({ data: resourceRows(pve, account, params.text('type')) }),
  },
  {
    method: 'GET',
    path: '/cluster/nextid',
    op: 'cluster.nextid',
    kind: 'read',
    params: { vmid: { ...VMID, optional: true } },
    handle: nextId,
  },
];

function statusRows({ world }: Pve, local: string): unknown[] {
  const nodes = world.nodes.map(({ name }, index) => ({
    type: 'node',
    id: `node/${name}`,
    name,
    nodeid: index + 1,
    ip: `10.10.0.${index + 11}`,
    online: 1,
    local: name === local ? 1 : 0,
    level: '',
  }));
  return [
    { type: 'cluster', id: 'cluster', name: world.cluster, nodes: nodes.length, quorate: 1, version: 3 },
    ...nodes,
  ];
}

function resourceRows(pve: Pve, account: Account, type: string | undefined): unknown[] {
  const wants = (kind: string): boolean => type === undefined || type === kind;
  const guests = [...pve.world.guests.values()].filter(({ vmid }) =>
    account.at(`/vms/${vmid}`).has('VM.Audit'),
  );
  return [
    ...(wants('vm') ? guests.map((guest) => guestRow(pve, guest)) : []),
    ...(wants('node')
      ? pve.world.nodes
          .filter(({ name }) => account.at(`/nodes/${name}`).has('Sys.Audit'))
          .map(({ name }) => nodeRow(pve, name))
      : []),
    ...(wants('storage') ? storageRows(pve, account) : []),
  ];
}

/** Existence, node, lock, tags and pool are live; name, status, template and numbers come from the last broadcast. */
function guestRow(pve: Pve, guest: WorldGuest): Record<string, unknown> {
  const { vmid, kind, node, config } = guest;
  const news = pve.broadcast.of(vmid);
  const pool = poolOf(pve.world, vmid);
  const { cpus, ...numbers } = sizesOf(guest);
  return {
    id: `${kind}/${vmid}`,
    type: kind,
    vmid,
    node,
    ...(news
      ? { name: news.name, status: news.status, template: news.template ? 1 : 0, maxcpu: cpus, ...numbers }
      : { status: 'unknown' }),
    ...(pool === undefined ? {} : { pool }),
    ...(config['lock'] === undefined ? {} : { lock: config['lock'] }),
    ...(config['tags'] === undefined ? {} : { tags: config['tags'] }),
  };
}

export function nodeRow(pve: Pve, name: string): Record<string, unknown> {
  const node = pve.world.nodes.find((candidate) => candidate.name === name);
  return {
    id: `node/${name}`,
    type: 'node',
    node: name,
    status: 'online',
    cpu: 0.05,
    maxcpu: node?.cores ?? 0,
    mem: usedMemoryMiB(pve, name) * MIB,
    maxmem: (node?.memoryMiB ?? 0) * MIB,
    disk: 8 * GIB,
    maxdisk: 96 * GIB,
    uptime: Math.floor(pve.context.clock.elapsedMs() / 1000) + 86_400,
    level: '',
    'cgroup-mode': 2,
  };
}

/** 4 GiB of the host itself and what its running guests take. */
export function usedMemoryMiB(pve: Pve, node: string): number {
  let used = 4096;
  for (const guest of pve.world.guests.values())
    if (guest.node === node && guest.status === 'running') used += Number(guest.config['memory'] ?? 512);
  return used;
}

function storageRows(pve: Pve, account: Account): unknown[] {
  const seen = pve.world.storages.filter(({ id }) => {
    const have = account.at(`/storage/${id}`);
    return have.has('Datastore.Audit') || have.has('Datastore.AllocateSpace');
  });
  return seen.flatMap((storage) =>
    pve.world.nodes.map(({ name }) => ({
      id: `storage/${name}/${storage.id}`,
      type: 'storage',
      storage: storage.id,
      node: name,
      plugintype: storage.type,
      shared: storage.shared ? 1 : 0,
      content: 'images,rootdir',
      status: 'available',
      disk: Math.round(usedGiB(pve, storage, name) * GIB),
      maxdisk: storage.sizeGiB * GIB,
    })),
  );
}

/** Reserves nothing. Says VM for containers too. */
function nextId({ pve, params }: PveCall): Handled {
  const asked = params.number('vmid');
  if (asked !== undefined) {
    if (pve.world.guests.has(asked)) throw parameterErrors({ vmid: `VM ${asked} already exists` });
    return { data: String(asked) };
  }
  for (let id = FIRST_ID; id <= LAST_ID; id += 1) if (!pve.world.guests.has(id)) return { data: String(id) };
  throw failure(`unable to get any free VMID in range [${FIRST_ID}, ${LAST_ID}]`);
}
