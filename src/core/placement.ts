import type { Size } from './definitions.js';

/** A node of the cluster as placement sees it (`NodeInfo` of an inventory fits). */
export interface PlacementNode {
  readonly name: string;
  readonly online: boolean;
  readonly cores: number;
  readonly memoryTotalMiB: number;
  readonly memoryUsedMiB: number;
}

/** A storage as placement sees it (`StorageInfo` fits). `node` undefined = shared. */
export interface PlacementStorage {
  readonly id: string;
  readonly node: string | undefined;
  readonly shared: boolean;
  readonly totalGiB: number;
  readonly usedGiB: number;
}

/** Where the template lies (`TemplateInfo` fits). */
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
  readonly template: TemplateSpot;
  readonly clone: 'linked' | 'full';
  /** Target of a full clone; default the template's storage. */
  readonly storage?: string | undefined;
  readonly nodes: readonly PlacementNode[];
  readonly storages: readonly PlacementStorage[];
  readonly reserved: Promised;
  /** Names of nodes that get no machine. */
  readonly exclude: readonly string[];
}

export type Placed = { readonly node: string; readonly storage: string } | { readonly refused: string };

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

/** Names a storage in a whole cluster: local storages have the same id on each node. */
export function storageKey(storage: Pick<PlacementStorage, 'id' | 'node' | 'shared'>): string {
  return storage.shared || storage.node === undefined ? storage.id : `${storage.id}@${storage.node}`;
}

interface Spot {
  readonly node: PlacementNode;
  readonly storage: PlacementStorage | undefined;
  readonly note: string | undefined;
  freeMemoryMiB: number;
  cores: number;
  machines: number;
}

/**
 * Gives each machine a node and a storage: greedy, to the node with most free memory (then fewest promised cores, then by name), so the same input gives the same plan.
 * A template on local storage can only be cloned on its own node; so can a full clone to a local storage, because Proxmox VE accepts another
 * target node only between shared storages.
 * Disks count with their whole virtual size, linked clones too: each one may grow to it, and a full thin pool stops every guest on it.
 */
export function place(request: PlacementRequest): Placement {
  const { size, template } = request;
  const diskGiB = Math.max(template.diskGiB, size.diskGiB);
  const spots = findSpots(request);
  const freeGiB = new Map<string, number>();
  for (const { storage } of spots) {
    if (storage) freeGiB.set(storageKey(storage), freeOf(storage, request.reserved));
  }
  const freeBefore = new Map(freeGiB);
  const memoryBefore = new Map(spots.map((spot) => [spot.node.name, spot.freeMemoryMiB]));
  const hasRoom = (spot: Spot): boolean =>
    spot.note === undefined &&
    spot.storage !== undefined &&
    spot.freeMemoryMiB >= size.memoryMiB &&
    (freeGiB.get(storageKey(spot.storage)) ?? 0) >= diskGiB;

  const machines = Array.from({ length: request.machines }, (): Placed => {
    const best = spots.filter(hasRoom).sort(byLoad)[0];
    if (!best?.storage) return { refused: explainRefusal(spots, size, diskGiB, freeGiB) };
    const key = storageKey(best.storage);
    best.freeMemoryMiB -= size.memoryMiB;
    best.cores += size.cores;
    best.machines += 1;
    freeGiB.set(key, (freeGiB.get(key) ?? 0) - diskGiB);
    return { node: best.node.name, storage: best.storage.id };
  });

  const nodeLines = spots.map((spot): CapacityLine => {
    const freeMemoryMiB = memoryBefore.get(spot.node.name) ?? 0;
    return {
      kind: 'node',
      name: spot.node.name,
      freeMemoryMiB,
      plannedMachines: spot.machines,
      plannedMemoryMiB: spot.machines * size.memoryMiB,
      fits: spot.note === undefined ? Math.floor(freeMemoryMiB / size.memoryMiB) : 0,
      ...(spot.note === undefined ? {} : { note: spot.note }),
    };
  });
  const storageLines = [...freeBefore].map(([name, free]): CapacityLine => {
    const planned = spots
      .filter((spot) => spot.storage && storageKey(spot.storage) === name)
      .reduce((sum, spot) => sum + spot.machines, 0);
    return {
      kind: 'storage',
      name,
      freeGiB: free,
      plannedMachines: planned,
      plannedGiB: planned * diskGiB,
      fits: Math.floor(free / diskGiB),
    };
  });
  return { machines, capacity: [...nodeLines, ...storageLines] };
}

function findSpots(request: PlacementRequest): Spot[] {
  const { template, size, reserved } = request;
  const target = request.clone === 'linked' ? template.storage : (request.storage ?? template.storage);
  const isEverywhere =
    template.storageShared && request.storages.some((storage) => storage.id === target && storage.shared);
  return [...request.nodes]
    .sort((a, b) => compareText(a.name, b.name))
    .map((node): Spot => {
      const storage = request.storages.find(
        (candidate) => candidate.id === target && (candidate.shared || candidate.node === node.name),
      );
      const promised = reserved.perNode.get(node.name);
      const free = node.memoryTotalMiB - node.memoryUsedMiB - (promised?.memoryMiB ?? 0) - NODE_HEADROOM_MIB;
      let note: string | undefined;
      if (request.exclude.includes(node.name)) note = 'excluded by the cluster definition';
      else if (!node.online) note = 'offline';
      else if (!isEverywhere && node.name !== template.node)
        note = `cannot reach template ${template.vmid}, which is local to ${template.node}`;
      else if (!storage) note = `has no storage ${target}`;
      else if (node.cores < size.cores) note = `has ${node.cores} cores, fewer than one machine needs`;
      return {
        node,
        storage: note === undefined ? storage : undefined,
        note,
        freeMemoryMiB: Math.max(0, Math.floor(free)),
        cores: promised?.cores ?? 0,
        machines: 0,
      };
    });
}

function freeOf(storage: PlacementStorage, reserved: Promised): number {
  const free = storage.totalGiB - storage.usedGiB - (reserved.perStorageGiB.get(storageKey(storage)) ?? 0);
  return Math.max(0, Math.floor(free));
}

function byLoad(a: Spot, b: Spot): number {
  return b.freeMemoryMiB - a.freeMemoryMiB || a.cores - b.cores || compareText(a.node.name, b.node.name);
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function explainRefusal(
  spots: readonly Spot[],
  size: Size,
  diskGiB: number,
  freeGiB: ReadonlyMap<string, number>,
): string {
  if (spots.length === 0) return 'The cluster has no nodes.';
  const reasons = spots.map((spot) => {
    if (spot.note !== undefined || !spot.storage) return `${spot.node.name}: ${spot.note ?? 'no storage'}`;
    const key = storageKey(spot.storage);
    if (spot.freeMemoryMiB < size.memoryMiB)
      return `${spot.node.name}: ${spot.freeMemoryMiB} of ${size.memoryMiB} MiB memory left`;
    return `${spot.node.name}: ${freeGiB.get(key) ?? 0} of ${diskGiB} GiB left on ${key}`;
  });
  return `No node has room for one more machine (${reasons.join('; ')}).`;
}
