import { poolOf, type WorldGuest } from '../world.js';
import type { Account } from './auth.js';
import type { Pve, Route, Told } from './pve.js';
import { isOn } from './volumes.js';

export const resourcesRoute: Route = {
  method: 'GET',
  path: '/cluster/resources',
  op: 'cluster.resources',
  kind: 'read',
  params: { type: { type: 'string', optional: true, enum: ['vm', 'storage', 'node', 'sdn'] } },
  handle({ pve, account, params, node, worker }) {
    const told = pve.broadcast.read(`${node}/${worker}`);
    const type = params.text('type');
    const wants = (kind: string): boolean => type === undefined || type === kind;
    return {
      data: [
        ...(type === undefined ? poolRows(pve, account) : []),
        ...(wants('vm') ? guestRows(pve, account, told) : []),
        ...(wants('node') ? nodeRows(pve, account, told) : []),
        ...(wants('storage') ? storageRows(pve, account, told) : []),
        ...(wants('sdn') ? sdnRows(pve, account) : []),
      ],
    };
  },
};

function poolRows({ world }: Pve, account: Account): unknown[] {
  return [...world.pools.keys()]
    .filter((pool) => account.at(`/pool/${pool}`).has('Pool.Audit'))
    .map((pool) => ({ id: `/pool/${pool}`, type: 'pool', pool }));
}

function guestRows(pve: Pve, account: Account, told: Told): unknown[] {
  return [...pve.world.guests.values()]
    .filter(({ vmid }) => account.at(`/vms/${vmid}`).has('VM.Audit'))
    .map((guest) => guestRow(pve, guest, told));
}

/** Existence, node, lock, tags and pool are live; name, status, template and numbers are what was told last. */
export function guestRow(pve: Pve, guest: WorldGuest, told: Told): Record<string, unknown> {
  const { vmid, kind, node, config } = guest;
  const pool = poolOf(pve.world, vmid);
  const hastate = pve.ha.stateOf(vmid);
  const news = told.guest(vmid);
  const memhost =
    news && pve.world.version === '9.1' && kind === 'qemu' ? { memhost: Number(news['mem']) } : {};
  return {
    id: `${kind}/${vmid}`,
    type: kind,
    vmid,
    node,
    ...(news ?? { status: 'unknown' }),
    ...memhost,
    ...(pool === undefined ? {} : { pool }),
    ...(config['lock'] === undefined ? {} : { lock: config['lock'] }),
    ...(config['tags'] === undefined ? {} : { tags: config['tags'] }),
    ...(hastate === undefined ? {} : { hastate }),
  };
}

/** Whoever may not audit a node sees that it is there, without numbers. */
export function nodeRows(pve: Pve, account: Account, told: Told): Record<string, unknown>[] {
  return pve.world.nodes.map(({ name }) => {
    const news = told.node(name);
    const isOff = pve.world.conditions.nodesOff.has(name);
    const maySee = account.at(`/nodes/${name}`).has('Sys.Audit');
    return {
      id: `node/${name}`,
      type: 'node',
      node: name,
      status: isOff ? 'offline' : news ? 'online' : 'unknown',
      level: '',
      ...(maySee && !isOff ? news : {}),
    };
  });
}

function storageRows(pve: Pve, account: Account, told: Told): unknown[] {
  const seen = pve.world.storages.filter(
    ({ id, isDisabled }) => !isDisabled && account.at(`/storage/${id}`).has('Datastore.Audit'),
  );
  return seen.flatMap((storage) =>
    pve.world.nodes
      .filter(({ name }) => isOn(storage, name))
      .map(({ name }) => storageRow(storage.id, name, pve, told)),
  );
}

export function storageRow(id: string, node: string, pve: Pve, told: Told): Record<string, unknown> {
  const storage = pve.world.storages.find((one) => one.id === id);
  const news = told.storage(node, id);
  return {
    id: `storage/${node}/${id}`,
    type: 'storage',
    storage: id,
    node,
    plugintype: storage?.type,
    shared: storage?.shared ? 1 : 0,
    content: storage?.content.join(','),
    status: news ? 'available' : 'unknown',
    ...news,
  };
}

/** The one zone that every node has: its plain bridges. */
function sdnRows(pve: Pve, account: Account): unknown[] {
  if (!account.at('/sdn/zones/localnetwork').has('SDN.Audit')) return [];
  return pve.world.nodes.map(({ name }) => ({
    id: `sdn/${name}/localnetwork`,
    type: 'sdn',
    sdn: 'localnetwork',
    node: name,
    status: pve.world.conditions.nodesOff.has(name) ? 'unknown' : 'ok',
  }));
}
