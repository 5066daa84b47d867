import type { z } from 'zod';
import { HatcheryError } from '../../core/errors.js';
import type { GuestInfo, Inventory, NodeInfo, StorageInfo } from '../../ports/hypervisor.js';
import { readAs, readFromAs, type Cluster } from './cluster.js';
import { SharedRead } from './shared-read.js';
import { reasonOf } from './errors.js';
import {
  clusterStatus,
  permissions,
  pools,
  resources,
  version,
  type GuestRow,
  type NodeRow,
  type StorageRow,
} from './wire.js';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
const RELEASE_AGE_MS = 600_000;
/** How old the shared reads may be for what a live answer confirms in the end. */
const AGE_MS = 10_000;
const LEAST_AGE_MS = 2_000;
/** How old an answer about our own rights may be. */
const RIGHTS_AGE_MS = 60_000;

const STATUS = { op: 'cluster-status', what: 'read the state of the cluster', path: '/cluster/status' };

/** An inventory as the driver sees it. */
export interface ClusterMap extends Inventory {
  /** Without those that the site excludes from placement. */
  readonly usedNodes: readonly NodeInfo[];
}

/**
 * Reads of the whole cluster, each shared by all callers of the process.
 * Existence, node and pool of a guest are live in it (the server keeps an answer for 2 s); names are broadcast every 10 s and say nothing about identity.
 */
export class ClusterReads {
  readonly #cluster: Cluster;
  readonly #map: SharedRead<ClusterMap>;
  readonly #quorate: SharedRead<boolean>;
  readonly #poolMembers: SharedRead<ReadonlySet<number> | undefined>;
  readonly #release: SharedRead<string>;
  readonly #seesAll: SharedRead<boolean>;
  /** For `map` and `quorate`, where a class of machines asks. */
  readonly ageMs: number;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.#map = new SharedRead(cluster.clock, (signal) => this.#readMap(signal));
    this.#quorate = new SharedRead(cluster.clock, (signal) => this.#readQuorate(signal));
    this.#poolMembers = new SharedRead(cluster.clock, (signal) => this.#readPool(signal));
    this.#release = new SharedRead(cluster.clock, (signal) => this.#readRelease(signal));
    this.#seesAll = new SharedRead(cluster.clock, (signal) => this.#readSeesAll(signal));
    this.ageMs = Math.max(LEAST_AGE_MS, AGE_MS * cluster.remoteTimeScale);
  }

  map(maxAgeMs: number, signal: AbortSignal): Promise<ClusterMap> {
    return this.#map.get(maxAgeMs, signal);
  }

  /** Without quorum every answer of the cluster may be old: absence then proves nothing. */
  quorate(maxAgeMs: number, signal: AbortSignal): Promise<boolean> {
    return this.#quorate.get(maxAgeMs, signal);
  }

  /** Whether the inventory shows us every guest, so that a missing row means that there is none. */
  seesAllGuests(signal: AbortSignal): Promise<boolean> {
    return this.#seesAll.get(RIGHTS_AGE_MS, signal);
  }

  /** VMIDs in our pool; live, unlike the pool column of a kept inventory answer. None when the list does not show it. */
  async poolMembers(maxAgeMs: number, signal: AbortSignal): Promise<ReadonlySet<number>> {
    return (await this.#poolMembers.get(maxAgeMs, signal)) ?? new Set();
  }

  /** As `poolMembers`, for questions about our rights: `undefined` when there is no such pool, or when it is not for us. */
  async poolIfSeen(maxAgeMs: number, signal: AbortSignal): Promise<ReadonlySet<number> | undefined> {
    try {
      return await this.#poolMembers.get(maxAgeMs, signal);
    } catch (error) {
      const isNotForUs = error instanceof HatcheryError && error.code === 'permission-missing';
      if (isNotForUs || reasonOf(error) === 'pool-missing') return undefined;
      throw error;
    }
  }

  /** `9.1.4` of the node that answers; clusters are updated while we run. */
  release(signal: AbortSignal): Promise<string> {
    return this.#release.get(RELEASE_AGE_MS, signal);
  }

  async #readMap(signal: AbortSignal): Promise<ClusterMap> {
    const what = `read the inventory of cluster ${this.#cluster.definition.name}`;
    const takenAtMs = this.#cluster.clock.wallMs();
    const request = { op: 'inventory', what, path: '/cluster/resources' };
    const rows = await readAs(this.#cluster, resources, request, signal);
    const guests = rows.guests.map(guestInfo);
    const nodes = rows.nodes.map((row) => nodeInfo(row, guests));
    if (nodes.length === 0)
      throw new HatcheryError('cluster-unreachable', `Unable to ${what}: the answer holds no node`, {
        retry: 'later',
      });
    const { exclude } = this.#cluster.definition.nodes;
    return {
      takenAtMs,
      nodes,
      usedNodes: nodes.filter((node) => !exclude.includes(node.name)),
      unknownNodes: exclude.filter((name) => !nodes.some((node) => node.name === name)),
      storages: storageInfos(rows.storages),
      guests,
    };
  }

  /** Asks each endpoint until one sits in a part of the cluster that has quorum. */
  async probe(signal: AbortSignal): Promise<void> {
    const { definition } = this.#cluster;
    let failure: unknown;
    for (const endpoint of definition.endpoints)
      try {
        if (isQuorate(await readFromAs(this.#cluster, clusterStatus, { endpoint, request: STATUS }, signal)))
          return;
        failure = new HatcheryError('cluster-no-quorum', 'the cluster has no quorum', { retry: 'later' });
      } catch (error) {
        signal.throwIfAborted();
        failure ??= error;
      }
    throw failure;
  }

  async #readQuorate(signal: AbortSignal): Promise<boolean> {
    return isQuorate(await readAs(this.#cluster, clusterStatus, STATUS, signal));
  }

  async #readRelease(signal: AbortSignal): Promise<string> {
    const request = { op: 'version', what: 'read the version of the cluster', path: '/version' };
    return (await readAs(this.#cluster, version, request, signal)).version;
  }

  /** The right must be inherited by the guests below the path: the value of a privilege says so. */
  async #readSeesAll(signal: AbortSignal): Promise<boolean> {
    const what = 'read whether we see every guest';
    const request = { op: 'permissions', what, path: '/access/permissions', query: { path: '/vms' } };
    const held = await readAs(this.#cluster, permissions, request, signal);
    return Number(held['/vms']?.['VM.Audit'] ?? 0) === 1;
  }

  async #readPool(signal: AbortSignal): Promise<ReadonlySet<number> | undefined> {
    const { pool } = this.#cluster.definition;
    const request = { op: 'pool', what: `read the pool ${pool}`, path: '/pools', query: { poolid: pool } };
    const found = await readAs(this.#cluster, pools, request, signal);
    const own = found.find((entry) => entry.poolid === pool);
    return own && new Set((own.members ?? []).flatMap((member) => member.vmid ?? []));
  }
}

function nodeInfo(row: NodeRow, guests: readonly GuestInfo[]): NodeInfo {
  const own = guests.filter((guest) => guest.node === row.node && !guest.template);
  return {
    name: row.node,
    online: row.status === 'online',
    cores: row.maxcpu,
    memoryTotalMiB: Math.floor(row.maxmem / MIB),
    memoryUsedMiB: Math.ceil(row.mem / MIB),
    guestCores: own.reduce((sum, guest) => sum + guest.cores, 0),
  };
}

function guestInfo(row: GuestRow): GuestInfo {
  return {
    vmid: row.vmid,
    kind: row.type,
    node: row.node,
    name: row.name,
    template: row.template,
    pool: row.pool === '' ? undefined : row.pool,
    lock: row.lock,
    memoryMiB: Math.floor(row.maxmem / MIB),
    cores: row.maxcpu,
  };
}

/** Every node reports a shared storage; a node that cannot reach it reports zeros, so the largest row is the one that saw it. */
function storageInfos(rows: readonly StorageRow[]): StorageInfo[] {
  const found = new Map<string, StorageInfo>();
  for (const row of rows) {
    const key = row.shared ? row.storage : `${row.node}/${row.storage}`;
    const before = found.get(key);
    found.set(key, {
      id: row.storage,
      node: row.shared ? undefined : row.node,
      shared: row.shared,
      totalGiB: Math.max(before?.totalGiB ?? 0, row.maxdisk / GIB),
      usedGiB: Math.max(before?.usedGiB ?? 0, row.disk / GIB),
    });
  }
  return [...found.values()];
}

function isQuorate(rows: z.infer<typeof clusterStatus>): boolean {
  const whole = rows.find((row) => row.type === 'cluster');
  // A single node that is in no cluster has no such row and always decides alone.
  return whole === undefined ? rows.length === 1 : whole.quorate;
}
