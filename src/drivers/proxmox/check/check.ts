import type { CheckFinding, IntendedUse } from '../../../ports/hypervisor.js';
import type { Archives } from '../archives.js';
import type { Cluster } from '../cluster.js';
import type { ClusterReads } from '../inventory.js';
import type { Templates } from '../templates.js';
import { lookAtArchives } from './check-archives.js';
import { checkEndpoints, checkNodes } from './check-nodes.js';
import { checkPool, checkRange, checkVolumes } from './check-range.js';
import { checkRights } from './check-rights.js';
import { checkSnippets } from './check-snippets.js';
import { checkStorages, usedStorages } from './check-storages.js';
import { lookAtTemplates } from './check-templates.js';
import { checkVendorData } from './check-vendor-data.js';
import { guarded } from '../../findings.js';

/** Everything that a cluster needs before the first class, as findings whose remedies are commands for root on a node. */
export async function checkCluster(
  parts: {
    readonly cluster: Cluster;
    readonly reads: ClusterReads;
    readonly templates: Templates;
    readonly archives: Archives;
  },
  use: IntendedUse,
  signal: AbortSignal,
): Promise<readonly CheckFinding[]> {
  const { cluster, reads, templates, archives } = parts;
  const endpoints = await checkEndpoints(cluster, signal);
  if (endpoints.every((finding) => !finding.ok)) return endpoints;
  const nodes = await guarded('nodes', signal, () => checkNodes(cluster, reads, signal));
  const looks = await lookAtTemplates(templates, use.blueprints, signal);
  const online = (await reads.map(2_000, signal)).usedNodes
    .filter((node) => node.online)
    .map((node) => node.name);
  const unpacked = await lookAtArchives(archives, use.blueprints, online, signal);
  const storages = usedStorages(looks, unpacked, online);
  const workflowOf = new Map(use.blueprints.map(({ name, workflow }) => [name, workflow]));
  const places = {
    pool: cluster.definition.pool,
    templates: (workflow: string) =>
      looks.flatMap(({ blueprint, template }) =>
        blueprint.workflow === workflow && template !== undefined ? [template.vmid] : [],
      ),
    storages: (workflow: string) =>
      storages
        .filter(({ blueprints }) => blueprints.some((name) => workflowOf.get(name) === workflow))
        .map(({ id }) => id),
    archives: (workflow: string) =>
      unpacked.flatMap(({ blueprint, copies }) =>
        blueprint.workflow === workflow
          ? copies.map(({ volume }) => volume.slice(0, volume.indexOf(':')))
          : [],
      ),
  };
  const [rights, pool, range, room, left, told, snippets] = await Promise.all([
    guarded('rights', signal, () => checkRights(cluster, reads, use, places, signal)),
    guarded('pool', signal, () => checkPool(cluster, reads, signal)),
    guarded('VMIDs', signal, () => checkRange(cluster, reads, use, signal)),
    guarded('storages', signal, () => checkStorages(cluster, reads, storages, signal)),
    guarded('leftovers', signal, () => checkVolumes(cluster, reads, storages, use, signal)),
    guarded('vendor data', signal, () => checkVendorData(cluster, reads, use, signal)),
    guarded('snippets', signal, () => checkSnippets(cluster, reads, use, signal)),
  ]);
  const models = [...looks, ...unpacked].flatMap(({ findings }) => findings);
  const made = [...models, ...told, ...snippets, ...room];
  return [...endpoints, ...nodes, ...rights, ...pool, ...range, ...made, ...left];
}
