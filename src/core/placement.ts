import type { Size } from './definitions.js';

/** A node of the cluster as placement sees it (`NodeInfo` of an inventory fits). */
export interface PlacementNode {
  readonly name: string;
  readonly online: boolean;
  readonly cores: number;
  readonly memoryTotalMiB: number;
  readonly memoryUsedMiB: number;
  /** Virtual cores of the guests that are on it already. */
  readonly guestCores: number;
}

/** A storage as placement sees it (`StorageInfo` fits). `node` undefined = shared. */
export interface PlacementStorage {
  readonly id: string;
  readonly node: string | undefined;
  readonly shared: boolean;
  readonly totalGiB: number;
  readonly usedGiB: number;
}

/** Where one copy of the template lies (`TemplateInfo` fits). */
export interface TemplateSpot {
  readonly vmid: number;
  readonly node: string;
  readonly storage: string;
  readonly storageShared: boolean;
  readonly diskGiB: number;
}

/** What is promised to machines that do not use it yet. Storages are named by `storageKey`. */
export interface Promised {
  readonly perNode: ReadonlyMap<string, { readonly memoryMiB: number; readonly cores: number }>;
  readonly perStorageGiB: ReadonlyMap<string, number>;
}

export interface PlacementRequest {
  readonly machines: number;
  readonly size: Size;
  /** Copies of one template, at least one: a machine may come from any of them. */
  readonly templates: readonly TemplateSpot[];
  readonly clone: 'linked' | 'full';
  /** Target of a full clone; default the template's storage. */
  readonly storage?: string | undefined;
  readonly nodes: readonly PlacementNode[];
  readonly storages: readonly PlacementStorage[];
  readonly reserved: Promised;
  /** Nodes that get no machine: those that the cluster's definition leaves out, and those that the blueprint does. */
  readonly exclude: { readonly byCluster: readonly string[]; readonly byBlueprint: readonly string[] };
  /** Only these nodes get machines; `undefined` = all. */
  readonly pinned: readonly string[] | undefined;
}

export type Placed =
  | {
      readonly node: string;
      readonly storage: string;
      /** VMID of the template's copy that it is cloned from. */
      readonly template: number;
      /** Why there, for people. */
      readonly reason: string;
    }
  | { readonly refused: string };

/** Room on one node or storage, before the plan, and what the plan takes from it. */
export interface CapacityLine {
  readonly kind: 'node' | 'storage';
  /** Name of the node, or `storageKey` of the storage. */
  readonly name: string;
  readonly freeMemoryMiB?: number;
  readonly freeGiB?: number;
  readonly plannedMachines: number;
  readonly plannedMemoryMiB?: number;
  readonly plannedGiB?: number;
  /** Machines of this size that this line alone has room for. */
  readonly fits: number;
  /** Why the line gets no machine whatever its room. */
  readonly note?: string;
}

export interface Placement {
  readonly machines: readonly Placed[];
  readonly capacity: readonly CapacityLine[];
}

/** Memory that stays free on each node for the host itself. */
const NODE_HEADROOM_MIB = 1024;
/** Virtual cores that make a core as full as a whole memory does: more are possible, but no node gets there before the others. */
const GUEST_CORES_PER_CORE = 4;

/** Names a storage in a whole cluster: local storages have the same id on each node. */
export function storageKey(storage: Pick<PlacementStorage, 'id' | 'node' | 'shared'>): string {
  return storage.shared || storage.node === undefined ? storage.id : `${storage.id}@${storage.node}`;
}

/** A copy of the template that a node can clone from, and where the disk goes then. */
interface Way {
  readonly template: TemplateSpot;
  readonly storage: Pool;
}

interface Pool {
  readonly key: string;
  readonly storage: PlacementStorage;
  readonly freeBeforeGiB: number;
  freeGiB: number;
  machines: number;
}

interface Spot {
  readonly node: PlacementNode;
  readonly ways: readonly Way[];
  readonly note: string | undefined;
  readonly freeBeforeMiB: number;
  freeMemoryMiB: number;
  cores: number;
  machines: number;
}

/**
 * Gives each machine a node, a copy of the template and a storage. Greedy: the node that is least full with it, counted by its fullest part of memory,
 * virtual cores and local disk, guests and promises included (then by name), so the same input gives the same plan; on the node the copy
 * that made fewest machines of this plan, its own node's first.
 * A template on local storage can only be cloned on its own node; so can a full clone to a local storage, because Proxmox VE accepts another
 * target node only between shared storages.
 * Disks count with their whole virtual size, linked clones too: each one may grow to it, and a full thin pool stops every guest on it.
 */
export function place(request: PlacementRequest): Placement {
  const { size } = request;
  const pools = new Map<string, Pool>();
  const spots = [...request.nodes]
    .sort((a, b) => compareText(a.name, b.name))
    .map((node) => findSpot(node, request, pools));
  const clonesOf = new Map<number, number>();
  const machines = Array.from({ length: request.machines }, (): Placed => {
    const open = spots.flatMap((spot) => {
      const way = bestWay(spot, size, clonesOf);
      return way === undefined ? [] : [{ spot, way, fullness: fullnessWith(spot, way, size) }];
    });
    const best = open.sort(
      (a, b) => a.fullness.most - b.fullness.most || compareText(a.spot.node.name, b.spot.node.name),
    )[0];
    if (best === undefined) return { refused: explainRefusal(spots, size) };
    const { spot, way, fullness } = best;
    spot.freeMemoryMiB -= size.memoryMiB;
    spot.cores += size.cores;
    spot.machines += 1;
    way.storage.freeGiB -= diskGiB(way.template, size);
    way.storage.machines += 1;
    clonesOf.set(way.template.vmid, (clonesOf.get(way.template.vmid) ?? 0) + 1);
    return {
      node: spot.node.name,
      storage: way.storage.storage.id,
      template: way.template.vmid,
      reason: `${open.length === 1 ? 'the only node with room' : `least full of ${open.length}`}: ${fullness.text}`,
    };
  });
  return {
    machines,
    capacity: [
      ...spots.map((spot) => nodeLine(spot, size)),
      ...[...pools.values()].map((pool) => storageLine(pool, request)),
    ],
  };
}

const diskGiB = (template: TemplateSpot, size: Size): number => Math.max(template.diskGiB, size.diskGiB);

function findSpot(node: PlacementNode, request: PlacementRequest, pools: Map<string, Pool>): Spot {
  const promised = request.reserved.perNode.get(node.name);
  const free = node.memoryTotalMiB - node.memoryUsedMiB - (promised?.memoryMiB ?? 0) - NODE_HEADROOM_MIB;
  const freeMemoryMiB = Math.max(0, Math.floor(free));
  const closed = closedBy(node, request);
  const ways =
    closed === undefined ? request.templates.map((template) => wayOf(node, template, request)) : [];
  const open = ways.filter((way) => 'template' in way);
  const [lack] = ways.filter((way) => 'lack' in way);
  return {
    node,
    ways: open.map(({ template, storage }) => ({ template, storage: poolOf(storage, request, pools) })),
    note: closed ?? (open.length === 0 ? lack?.lack : undefined),
    freeBeforeMiB: freeMemoryMiB,
    freeMemoryMiB,
    cores: node.guestCores + (promised?.cores ?? 0),
    machines: 0,
  };
}

/** Why the node gets no machine, whatever its room and its copies of the template. */
function closedBy(node: PlacementNode, { exclude, pinned, size }: PlacementRequest): string | undefined {
  if (exclude.byCluster.includes(node.name)) return 'excluded by the cluster definition';
  if (exclude.byBlueprint.includes(node.name)) return 'excluded by the blueprint';
  if (pinned !== undefined && !pinned.includes(node.name))
    return `the blueprint wants ${pinned.join(' or ')}`;
  if (!node.online) return 'offline';
  if (node.cores < size.cores) return `has ${node.cores} cores, fewer than one machine needs`;
  return undefined;
}

function wayOf(
  node: PlacementNode,
  template: TemplateSpot,
  request: PlacementRequest,
): { template: TemplateSpot; storage: PlacementStorage } | { lack: string } {
  const target = request.clone === 'linked' ? template.storage : (request.storage ?? template.storage);
  const isEverywhere =
    template.storageShared && request.storages.some((storage) => storage.id === target && storage.shared);
  if (!isEverywhere && node.name !== template.node)
    return { lack: `cannot reach template ${template.vmid}, which is local to ${template.node}` };
  const storage = request.storages.find(
    (candidate) => candidate.id === target && (candidate.shared || candidate.node === node.name),
  );
  return storage === undefined ? { lack: `has no storage ${target}` } : { template, storage };
}

function poolOf(storage: PlacementStorage, { reserved }: PlacementRequest, pools: Map<string, Pool>): Pool {
  const key = storageKey(storage);
  const known = pools.get(key);
  if (known) return known;
  const free = storage.totalGiB - storage.usedGiB - (reserved.perStorageGiB.get(key) ?? 0);
  const freeGiB = Math.max(0, Math.floor(free));
  const pool: Pool = { key, storage, freeBeforeGiB: freeGiB, freeGiB, machines: 0 };
  pools.set(key, pool);
  return pool;
}

function bestWay(spot: Spot, size: Size, clonesOf: ReadonlyMap<number, number>): Way | undefined {
  if (spot.freeMemoryMiB < size.memoryMiB) return undefined;
  return spot.ways
    .filter(({ template, storage }) => storage.freeGiB >= diskGiB(template, size))
    .toSorted(
      (a, b) =>
        Number(b.template.node === spot.node.name) - Number(a.template.node === spot.node.name) ||
        (clonesOf.get(a.template.vmid) ?? 0) - (clonesOf.get(b.template.vmid) ?? 0) ||
        a.template.vmid - b.template.vmid,
    )[0];
}

/** Shares of the node that are taken once the machine is there. A shared storage is as full for every node, so it says nothing. */
function fullnessWith(spot: Spot, { template, storage }: Way, size: Size): { most: number; text: string } {
  const { node } = spot;
  const shares = {
    memory: 1 - (spot.freeMemoryMiB - size.memoryMiB) / Math.max(1, node.memoryTotalMiB),
    cores: (spot.cores + size.cores) / (node.cores * GUEST_CORES_PER_CORE),
    ...(storage.storage.shared
      ? {}
      : { disk: 1 - (storage.freeGiB - diskGiB(template, size)) / Math.max(1, storage.storage.totalGiB) }),
  };
  const text = Object.entries(shares).map(([name, share]) => `${name} ${Math.round(share * 100)} %`);
  return { most: Math.max(...Object.values(shares)), text: text.join(', ') };
}

function nodeLine({ node, note, freeBeforeMiB, machines }: Spot, size: Size): CapacityLine {
  return {
    kind: 'node',
    name: node.name,
    freeMemoryMiB: freeBeforeMiB,
    plannedMachines: machines,
    plannedMemoryMiB: machines * size.memoryMiB,
    fits: note === undefined ? Math.floor(freeBeforeMiB / size.memoryMiB) : 0,
    ...(note === undefined ? {} : { note }),
  };
}

function storageLine(pool: Pool, { templates, size }: PlacementRequest): CapacityLine {
  const perMachineGiB = Math.max(...templates.map((template) => diskGiB(template, size)));
  return {
    kind: 'storage',
    name: pool.key,
    freeGiB: pool.freeBeforeGiB,
    plannedMachines: pool.machines,
    plannedGiB: pool.freeBeforeGiB - pool.freeGiB,
    fits: Math.floor(pool.freeBeforeGiB / perMachineGiB),
  };
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function explainRefusal(spots: readonly Spot[], size: Size): string {
  if (spots.length === 0) return 'The cluster has no nodes.';
  const reasons = spots.map(({ node, note, ways, freeMemoryMiB }) => {
    if (note !== undefined) return `${node.name}: ${note}`;
    if (freeMemoryMiB < size.memoryMiB)
      return `${node.name}: ${freeMemoryMiB} of ${size.memoryMiB} MiB memory left`;
    const rooms = ways.map(
      ({ template, storage }) =>
        `${storage.freeGiB} of ${diskGiB(template, size)} GiB left on ${storage.key}`,
    );
    return `${node.name}: ${[...new Set(rooms)].join(', ')}`;
  });
  return `No node has room for one more machine (${reasons.join('; ')}).`;
}
