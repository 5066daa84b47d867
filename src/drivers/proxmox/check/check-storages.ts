import type { CheckFinding, IntendedBlueprint } from '../../../ports/hypervisor.js';
import { readAs, type Cluster } from '../cluster.js';
import type { ClusterReads } from '../inventory.js';
import { nodeStorages, type NodeStorage } from '../wire.js';
import type { ArchiveLook } from './check-archives.js';
import type { TemplateLook } from './check-templates.js';
import { bad, doubtful, good, listed } from '../../findings.js';

const GIB = 1024 ** 3;
const LOW_SHARE = 0.1;

/** A storage that blueprints put disks on, and the nodes that must reach it. */
export interface UsedStorage {
  readonly id: string;
  readonly nodes: readonly string[];
  readonly blueprints: readonly string[];
  readonly contents: readonly VolumeContent[];
}

/** Disks of virtual machines, of containers. */
type VolumeContent = 'images' | 'rootdir';

/** Linked clones stay on the storage of their template; on one that is not shared, with the template's node. */
export function usedStorages(
  cloned: readonly TemplateLook[],
  unpacked: readonly ArchiveLook[],
  nodes: readonly string[],
): UsedStorage[] {
  const found = new Map<
    string,
    { nodes: Set<string>; blueprints: Set<string>; contents: Set<VolumeContent> }
  >();
  const note = (id: string, { name, kind }: IntendedBlueprint, on: readonly string[]): void => {
    const entry = found.get(id) ?? { nodes: new Set(), blueprints: new Set(), contents: new Set() };
    for (const node of on) entry.nodes.add(node);
    entry.blueprints.add(name);
    entry.contents.add(kind === 'lxc' ? 'rootdir' : 'images');
    found.set(id, entry);
  };
  for (const { blueprint, template } of cloned) {
    if (template === undefined) continue;
    const { clone, storage } = blueprint.source;
    const isLinked = clone === 'linked';
    const id = isLinked ? template.storage : (storage ?? template.storage);
    note(id, blueprint, isLinked && !template.storageShared ? [template.node] : nodes);
  }
  for (const { blueprint, copies } of unpacked)
    if (copies.length > 0)
      note(
        blueprint.source.storage,
        blueprint,
        copies.map(({ node }) => node),
      );
  return [...found].map(([id, entry]) => ({
    id,
    nodes: [...entry.nodes],
    blueprints: [...entry.blueprints],
    contents: [...entry.contents],
  }));
}

/** One list per node. A node that does not answer has a finding of its own already. */
export async function checkStorages(
  cluster: Cluster,
  reads: ClusterReads,
  used: readonly UsedStorage[],
  signal: AbortSignal,
): Promise<readonly CheckFinding[]> {
  const { usedNodes } = await reads.map(2_000, signal);
  const online = usedNodes.filter((node) => node.online).map((node) => node.name);
  const lists = new Map<string, readonly NodeStorage[]>();
  await Promise.all(
    online.map(async (node) => {
      const what = `list the storages of ${node}`;
      const request = { op: 'storage-list', what, path: `/nodes/${node}/storage` };
      lists.set(node, await readAs(cluster, nodeStorages, request, signal));
    }),
  );
  return used.flatMap((storage) => findingsOf(storage, online, lists));
}

function findingsOf(
  { id, nodes, blueprints, contents }: UsedStorage,
  online: readonly string[],
  lists: ReadonlyMap<string, readonly NodeStorage[]>,
): CheckFinding[] {
  const subject = `storage ${id}`;
  const rows = nodes
    .filter((node) => online.includes(node))
    .map((node) => ({ node, row: lists.get(node)?.find(({ storage }) => storage === id) }));
  const without = (isFine: (row: NodeStorage) => boolean): string[] =>
    rows.filter(({ row }) => row !== undefined && !isFine(row)).map(({ node }) => node);
  const absent = rows.filter(({ row }) => row === undefined).map(({ node }) => node);
  const inactive = without(({ active, enabled }) => active && enabled);
  const found: CheckFinding[] = [];
  if (absent.length > 0)
    found.push(
      bad(
        subject,
        `${listed(absent)} cannot use it, or we may not see it there; blueprints ${listed(blueprints)} put disks on it`,
        `pvesm set ${id} --nodes ${[...nodes].sort().join(',')}`,
      ),
    );
  if (inactive.length > 0)
    found.push(
      bad(subject, `it is not active on ${listed(inactive)}`, `see there: pvesm status --storage ${id}`),
    );
  for (const wanted of contents)
    if (without(({ content }) => content.split(',').includes(wanted)).length > 0)
      found.push(
        bad(
          subject,
          `it does not take ${wanted === 'images' ? 'disk images' : 'container directories'}`,
          `pvesm set ${id} --content images,rootdir`,
        ),
      );
  if (found.length > 0) return found;
  return rows
    .slice(0, rows.some(({ row }) => row?.shared) ? 1 : undefined)
    .map(({ node, row }) => room(row!, node));
}

function room({ storage, shared, total, avail }: NodeStorage, node: string): CheckFinding {
  const subject = `storage ${storage}`;
  const share = total > 0 ? avail / total : 0;
  const detail = `${Math.floor(avail / GIB)} of ${Math.floor(total / GIB)} GiB free${shared ? '' : ` on ${node}`}`;
  const remedy = 'delete what nobody needs, or give the blueprints another storage';
  if (avail < GIB) return bad(subject, detail, remedy);
  return share < LOW_SHARE ? doubtful(subject, detail, remedy) : good(subject, detail);
}
