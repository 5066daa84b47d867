import { clusterIdentity } from '../../core/definitions.js';
import type { Standing } from '../../ports/hypervisor.js';
import { readAs, type Cluster } from './cluster.js';
import type { ClusterReads } from './inventory.js';
import { spoken, takeAwayCommand, writesOutsidePool, type OutsideWrites, type Rights } from './rights.js';
import { permissions } from './wire.js';

/** Every path on which we hold anything at all. */
export async function readRights(cluster: Cluster, signal: AbortSignal): Promise<Rights> {
  const request = { op: 'permissions', what: 'read our own rights', path: '/access/permissions' };
  const held = await readAs(cluster, permissions, request, signal);
  return new Map(Object.entries(held).map(([path, privileges]) => [path, new Set(Object.keys(privileges))]));
}

/**
 * Where we could write to a guest that is none of ours. The answer lists members of our pool by their own paths too,
 * so the pool is read on both sides of it: a guest that came or went meanwhile is still ours.
 */
export async function outsideWrites(
  cluster: Cluster,
  reads: ClusterReads,
  signal: AbortSignal,
): Promise<readonly OutsideWrites[]> {
  const before = await reads.poolIfSeen(0, signal);
  const rights = await readRights(cluster, signal);
  const after = await reads.poolIfSeen(0, signal);
  const own = new Set([...(before ?? []), ...(after ?? [])].map((vmid) => `/vms/${vmid}`));
  return writesOutsidePool(rights, cluster.definition.pool, own);
}

/** See the port. */
export async function standingOf(
  cluster: Cluster,
  reads: ClusterReads,
  signal: AbortSignal,
): Promise<Standing> {
  const { name, pool, token } = cluster.definition;
  const { id, mayWriteOutsidePool } = clusterIdentity(cluster.definition);
  if (mayWriteOutsidePool) return { ok: true };
  const found = await outsideWrites(cluster, reads, signal);
  const worst = found[0];
  if (worst === undefined) return { ok: true };
  const more = found.length > 1 ? ` and on ${found.length - 1} more paths` : '';
  const kind = token ? 'token' : 'account';
  return {
    ok: false,
    code: 'permission-missing',
    sentence: `Unable to work on cluster ${name}: ${spoken(id)} may write outside the pool ${pool}: ${worst.privileges.join(', ')} on ${worst.path}${more}`,
    hint: `A mistake of ours could reach guests of others with these rights, so nothing is sent. ${takeAwayCommand(worst.path, id)}; hatchery cluster check ${name} lists every path. Where the site has nothing smaller to give, write mayWriteOutsidePool: true under ${kind} in clusters/${name}.yaml: then only the marks protect other guests.`,
  };
}
