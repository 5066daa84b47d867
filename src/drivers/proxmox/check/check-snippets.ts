import { clusterIdentity } from '../../../core/definitions.js';
import type { CheckFinding, IntendedUse } from '../../../ports/hypervisor.js';
import { readAs, type Cluster } from '../cluster.js';
import type { ClusterReads } from '../inventory.js';
import { grantCommand } from '../rights.js';
import { nodeStorages, type NodeStorage } from '../wire.js';
import { bad, doubtful, good, listed } from '../../findings.js';

/** Whether each node has a place for the cloud-init files that blueprints ask for. That the nodes can be reached is SSH's own check. */
export async function checkSnippets(
  cluster: Cluster,
  reads: ClusterReads,
  use: IntendedUse,
  signal: AbortSignal,
): Promise<readonly CheckFinding[]> {
  const { snippetStorage: storage } = cluster.definition;
  const asking = use.blueprints.filter(({ hasSnippets }) => hasSnippets).map(({ name }) => name);
  if (storage === undefined || asking.length === 0) return [];
  const subject = `snippets on storage ${storage}`;
  const { usedNodes } = await reads.map(2_000, signal);
  const online = usedNodes.filter((node) => node.online).map(({ name }) => name);
  const off = usedNodes.filter((node) => !node.online).map(({ name }) => name);
  const rows = await Promise.all(
    online.map(async (node) => {
      const what = `list the storages of ${node}`;
      const request = { op: 'storage-list', what, path: `/nodes/${node}/storage` };
      const list = await readAs(cluster, nodeStorages, request, signal);
      return { node, row: list.find((row) => row.storage === storage) };
    }),
  );
  const present = rows.flatMap(({ row }) => row ?? []);
  if (present.length === 0)
    return [
      bad(
        subject,
        `no node has it, or we may not see it; blueprints ${listed(asking)} need it`,
        grantCommand(
          `/storage/${storage}`,
          clusterIdentity(cluster.definition).id,
          'HatcherySnippets',
          'Datastore.Audit',
        ),
      ),
    ];
  const isShared = present.some(({ shared }) => shared);
  const lacking = lacks(subject, storage, rows);
  if (!isShared && off.length > 0)
    lacking.push(
      doubtful(
        subject,
        `${listed(off)} is off: machines that are made meanwhile do not start there`,
        `when it is back, copy hatchery-* there from another node; the folder is that of: pvesm path ${storage}:snippets/hatchery-`,
      ),
    );
  if (lacking.length > 0) return lacking;
  return [good(subject, isShared ? 'one for all nodes' : `${listed(online)}: each its own`)];
}

function lacks(
  subject: string,
  storage: string,
  rows: readonly { readonly node: string; readonly row: NodeStorage | undefined }[],
): CheckFinding[] {
  const nodesWhere = (isSo: (row: NodeStorage | undefined) => boolean): string =>
    listed(rows.filter(({ row }) => isSo(row)).map(({ node }) => node));
  const found: CheckFinding[] = [];
  const absent = nodesWhere((row) => row === undefined);
  if (absent !== '')
    found.push(
      bad(
        subject,
        `${absent} cannot use it`,
        `pvesm set ${storage} --nodes ${rows.map(({ node }) => node).join(',')}`,
      ),
    );
  const inactive = nodesWhere((row) => row !== undefined && !(row.active && row.enabled));
  if (inactive !== '')
    found.push(
      bad(subject, `it is not active on ${inactive}`, `see there: pvesm status --storage ${storage}`),
    );
  const contents = rows.flatMap(({ row }) => row?.content.split(',').filter(Boolean) ?? []);
  if (!contents.includes('snippets'))
    found.push(
      bad(
        subject,
        'it does not take snippets',
        `pvesm set ${storage} --content ${[...new Set(contents), 'snippets'].join(',')}`,
      ),
    );
  return found;
}
