import { clusterIdentity } from '../../../core/definitions.js';
import type { CheckFinding, IntendedUse } from '../../../ports/hypervisor.js';
import { readAs, type Cluster } from '../cluster.js';
import type { ClusterReads } from '../inventory.js';
import { grantCommand, outsideFindings, type Rights } from '../rights.js';
import { outsideWrites, readRights } from '../standing.js';
import { permissions } from '../wire.js';
import { bad, good } from '../../findings.js';
import { neededRights, type NeededRight, type Places } from './needed-rights.js';

/** Rights that reach too far, and those that the workflows lack: each named by itself with the command that gives it. */
export async function checkRights(
  cluster: Cluster,
  reads: ClusterReads,
  use: IntendedUse,
  places: Places,
  signal: AbortSignal,
): Promise<readonly CheckFinding[]> {
  const { id, mayWriteOutsidePool } = clusterIdentity(cluster.definition);
  const outside = await outsideWrites(cluster, reads, signal);
  const release = await reads.release(signal);
  const needed = neededRights(use, places, Number.parseInt(release, 10));
  const all = await readRights(cluster, signal);
  const held = new Map<string, ReadonlySet<string>>();
  for (const path of new Set(needed.map((right) => right.path)))
    held.set(path, all.get(path) ?? (await rightsOn(cluster, path, signal)));
  const isHeld = ({ path, privileges }: NeededRight): boolean =>
    privileges.some((privilege) => held.get(path)?.has(privilege) || isOnOtherZone(all, path, privilege));
  const missing = needed.filter((right) => !isHeld(right));
  return [
    ...(outside.length === 0
      ? [good('rights', `${id} writes to guests only through the pool ${cluster.definition.pool}`)]
      : outsideFindings(outside, id, mayWriteOutsidePool)),
    ...missing.map(({ privileges, path, role, neededBy }) =>
      bad(
        `${privileges[0]!} on ${path}`,
        `missing, and needed by ${neededBy.join(', ')}`,
        grantCommand(path, id, role, privileges[0]!),
      ),
    ),
    ...use.workflows.flatMap((workflow) => complete(workflow.id, needed, missing)),
  ];
}

function complete(
  workflow: string,
  needed: readonly NeededRight[],
  missing: readonly NeededRight[],
): CheckFinding[] {
  const isOf = ({ neededBy }: NeededRight): boolean =>
    neededBy.some((step) => step.startsWith(`${workflow}/`));
  if (missing.some(isOf)) return [];
  const byPath = new Map<string, string[]>();
  for (const { path, privileges } of needed.filter(isOf))
    byPath.set(path, [...(byPath.get(path) ?? []), privileges[0]!]);
  const detail = [...byPath].map(([path, rights]) => `${path}: ${rights.join(' ')}`).join('; ');
  return [good(`rights of workflow ${workflow}`, detail || 'it needs none here')];
}

/** The dump of all rights lists only paths that somebody named in an access entry. */
async function rightsOn(cluster: Cluster, path: string, signal: AbortSignal): Promise<ReadonlySet<string>> {
  const what = `read our own rights on ${path}`;
  const request = { op: 'permissions', what, path: '/access/permissions', query: { path } };
  return new Set(Object.keys((await readAs(cluster, permissions, request, signal))[path] ?? {}));
}

/** A bridge may be the vnet of an SDN zone, whose name we are not told. */
function isOnOtherZone(all: Rights, path: string, privilege: string): boolean {
  const below = /^\/sdn\/zones\/localnetwork(\/.+)$/.exec(path)?.[1];
  if (below === undefined) return false;
  return [...all].some(
    ([at, held]) =>
      at.startsWith('/sdn/zones/') &&
      !at.startsWith('/sdn/zones/localnetwork') &&
      below.startsWith(belowZone(at)) &&
      held.has(privilege),
  );
}

const belowZone = (path: string): string => path.replace(/^\/sdn\/zones\/[^/]+/, '');
