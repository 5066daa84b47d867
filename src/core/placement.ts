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

/** A node that has the archive (`ArchiveInfo` fits). */
export interface ArchiveSpot {
  readonly volume: string;
  readonly node: string;
}

/** What machines are made from, and how. At least one copy: a machine may come from any of them. */
export type PlacementSource =
  | {
      readonly templates: readonly TemplateSpot[];
      readonly clone: 'linked' | 'full';
      /** Target of a full clone; default the template's storage. */
      readonly storage?: string | undefined;
      /** A copy makes one clone at a time (containers), so that each makes as many as the others; else a node's own copy is as good as any. */
      readonly oneCloneAtATime: boolean;
    }
  | { readonly archives: readonly ArchiveSpot[]; readonly storage: string };

/** What is promised to machines that do not use it yet. Storages are named by `storageKey`. */
export interface Promised {
  readonly perNode: ReadonlyMap<string, { readonly memoryMiB: number; readonly cores: number }>;
  readonly perStorageGiB: ReadonlyMap<string, number>;
  /** Machines that are made of each copy of a template, by its VMID. */
  readonly perTemplate: ReadonlyMap<number, number>;
}

export interface PlacementRequest {
  readonly machines: number;
  readonly size: Size;
  readonly source: PlacementSource;
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
      readonly storageShared: boolean;
      /** VMID of the template's copy that it is cloned from. */
      readonly template?: number;
      /** Volume of the archive's copy that it is unpacked from. */
      readonly archive?: string;
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

/** A copy of the template or archive that a node can make a machine from, and where the disk goes then. */
interface Way {
  readonly spot: TemplateSpot | ArchiveSpot;
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
 * of which fewest machines are made, those of other batches included, its own node's first.
 * An archive can only be unpacked on a node that has it. A template on local storage can only be cloned on its own node; so can a full clone to a local storage, because Proxmox VE accepts another
 * target node only between shared storages.
 * Disks count with their whole virtual size, linked clones too: each one may grow to it, and a full thin pool stops every guest on it.
 */
export function place(request: PlacementRequest): Placement {
  const { size } = request;
  const pools = new Map<string, Pool>();
  const spots = [...request.nodes]
    .sort((a, b) => compareText(a.name, b.name))
    .map((node) => findSpot(node, request, pools));
  const clonesOf = new Map([...request.reserved.perTemplate].map(([vmid, count]) => [String(vmid), count]));
  const machines = Array.from({ length: request.machines }, (): Placed => {
    const open = spots.flatMap((spot) => {
      const way = bestWay(spot, request, clonesOf);
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
    way.storage.freeGiB -= diskGiB(way.spot, size);
    way.storage.machines += 1;
    clonesOf.set(nameOf(way.spot), (clonesOf.get(nameOf(way.spot)) ?? 0) + 1);
    return {
      node: spot.node.name,
      storage: way.storage.storage.id,
      storageShared: way.storage.storage.shared,
      ...('vmid' in way.spot ? { template: way.spot.vmid } : { archive: way.spot.volume }),
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

const diskGiB = (spot: Way['spot'], size: Size): number =>
  'vmid' in spot ? Math.max(spot.diskGiB, size.diskGiB) : size.diskGiB;

const nameOf = (spot: Way['spot']): string => ('vmid' in spot ? String(spot.vmid) : spot.volume);

function findSpot(node: PlacementNode, request: PlacementRequest, pools: Map<string, Pool>): Spot {
  const promised = request.reserved.perNode.get(node.name);
  const free = node.memoryTotalMiB - node.memoryUsedMiB - (promised?.memoryMiB ?? 0) - NODE_HEADROOM_MIB;
  const freeMemoryMiB = Math.max(0, Math.floor(free));
  const closed = closedBy(node, request);
  const ways = closed === undefined ? waysOf(node, request) : [];
  const open = ways.filter((way) => 'spot' in way);
  const [lack] = ways.filter((way) => 'lack' in way);
  return {
    node,
    ways: open.map(({ spot, storage }) => ({ spot, storage: poolOf(storage, request, pools) })),
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

type FoundWay = { spot: Way['spot']; storage: PlacementStorage } | { lack: string };

function waysOf(node: PlacementNode, { source, storages }: PlacementRequest): FoundWay[] {
  if ('templates' in source)
    return source.templates.map((template): FoundWay => {
      const target = source.clone === 'linked' ? template.storage : (source.storage ?? template.storage);
      const isEverywhere =
        template.storageShared && storages.some((storage) => storage.id === target && storage.shared);
      if (!isEverywhere && node.name !== template.node)
        return { lack: `cannot reach template ${template.vmid}, which is local to ${template.node}` };
      return wayOn(node, template, target, storages);
    });
  const archive = source.archives.find((one) => one.node === node.name);
  if (archive) return [wayOn(node, archive, source.storage, storages)];
  return [{ lack: `does not have the archive ${source.archives[0]?.volume ?? ''}` }];
}

function wayOn(
  node: PlacementNode,
  spot: Way['spot'],
  target: string,
  storages: readonly PlacementStorage[],
): FoundWay {
  const storage = storages.find(
    (candidate) => candidate.id === target && (candidate.shared || candidate.node === node.name),
  );
  return storage === undefined ? { lack: `has no storage ${target}` } : { spot, storage };
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

function bestWay(
  { node, ways, freeMemoryMiB }: Spot,
  { size, source }: PlacementRequest,
  clonesOf: ReadonlyMap<string, number>,
): Way | undefined {
  if (freeMemoryMiB < size.memoryMiB) return undefined;
  const ownFirst = (a: Way, b: Way): number =>
    Number(b.spot.node === node.name) - Number(a.spot.node === node.name);
  const fewestFirst = (a: Way, b: Way): number =>
    (clonesOf.get(nameOf(a.spot)) ?? 0) - (clonesOf.get(nameOf(b.spot)) ?? 0);
  const [first, then] =
    'templates' in source && source.oneCloneAtATime ? [fewestFirst, ownFirst] : [ownFirst, fewestFirst];
  return ways
    .filter((way) => way.storage.freeGiB >= diskGiB(way.spot, size))
    .toSorted((a, b) => first(a, b) || then(a, b) || compareText(nameOf(a.spot), nameOf(b.spot)))[0];
}

/** Shares of the node that are taken once the machine is there. A shared storage is as full for every node, so it says nothing. */
function fullnessWith(spot: Spot, { spot: from, storage }: Way, size: Size): { most: number; text: string } {
  const { node } = spot;
  const shares = {
    memory: 1 - (spot.freeMemoryMiB - size.memoryMiB) / Math.max(1, node.memoryTotalMiB),
    cores: (spot.cores + size.cores) / (node.cores * GUEST_CORES_PER_CORE),
    ...(storage.storage.shared
      ? {}
      : { disk: 1 - (storage.freeGiB - diskGiB(from, size)) / Math.max(1, storage.storage.totalGiB) }),
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

function storageLine(pool: Pool, { source, size }: PlacementRequest): CapacityLine {
  const spots = 'templates' in source ? source.templates : source.archives;
  const perMachineGiB = Math.max(...spots.map((spot) => diskGiB(spot, size)));
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
      ({ spot, storage }) => `${storage.freeGiB} of ${diskGiB(spot, size)} GiB left on ${storage.key}`,
    );
    return `${node.name}: ${[...new Set(rooms)].join(', ')}`;
  });
  return `No node has room for one more machine (${reasons.join('; ')}).`;
}
