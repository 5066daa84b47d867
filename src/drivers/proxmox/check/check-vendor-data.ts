import type { CheckFinding, IntendedUse } from '../../../ports/hypervisor.js';
import { readAs, type Cluster } from '../cluster.js';
import type { ClusterReads } from '../inventory.js';
import { readRights } from '../standing.js';
import { volumes } from '../wire.js';
import { bad, doubtful, good, listed } from '../../findings.js';

const SUBJECT = 'vendor data';

/** Whether each node has the file that guests are started with: on a node without it, none of ours would start. */
export async function checkVendorData(
  cluster: Cluster,
  reads: ClusterReads,
  use: IntendedUse,
  signal: AbortSignal,
): Promise<readonly CheckFinding[]> {
  const { name, vendorData } = cluster.definition;
  if (vendorData === undefined) return [];
  if (!use.phonesHome)
    return [
      doubtful(
        SUBJECT,
        `the cluster's file names ${vendorData}, but nobody knows where guests reach the API: their agents are asked`,
        'set HATCHERY_PUBLIC_URL for the API and the workers',
      ),
    ];
  const storage = vendorData.slice(0, vendorData.indexOf(':'));
  const rights = await readRights(cluster, signal);
  if (!(rights.get(`/storage/${storage}`) ?? rights.get('/storage'))?.has('Datastore.Allocate'))
    return [
      doubtful(
        SUBJECT,
        `snippets are shown only to who has Datastore.Allocate on /storage/${storage}: nobody can tell from here whether each node has ${vendorData}`,
        `see on each node: cat "$(pvesm path ${vendorData})"; it has to be what hatchery cluster vendor-data ${name} prints`,
      ),
    ];
  const { usedNodes } = await reads.map(2_000, signal);
  const nodes = usedNodes.filter((node) => node.online).map((node) => node.name);
  const missing: string[] = [];
  for (const node of nodes) {
    const path = `/nodes/${node}/storage/${storage}/content`;
    const what = `list the snippets of storage ${storage} on ${node}`;
    const request = { op: 'storage-content', what, path, query: { content: 'snippets' } };
    const there = await readAs(cluster, volumes, request, signal);
    if (!there.some(({ volid }) => volid === vendorData)) missing.push(node);
  }
  if (missing.length === 0) return [good(SUBJECT, `${vendorData} is on ${listed(nodes)}`)];
  return [
    bad(
      SUBJECT,
      `${listed(missing)} has no ${vendorData}: machines do not start there`,
      `put what hatchery cluster vendor-data ${name} prints into the file that this names there: pvesm path ${vendorData}`,
    ),
  ];
}
