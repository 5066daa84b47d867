import { readAs, type Cluster } from './cluster.js';
import type { ClusterReads } from './inventory.js';
import { volumes } from './wire.js';

/**
 * Volume ids that carry a VMID, on every storage that can be read; a storage that only some nodes reach is asked there.
 * Errors: as for any read; a storage that does not answer fails the whole, because what it holds is not known.
 */
export async function volumesOf(
  cluster: Cluster,
  reads: ClusterReads,
  vmid: number,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const map = await reads.map(0, signal);
  const online = map.allNodes.filter((node) => node.online).map((node) => node.name);
  const found = new Set<string>();
  for (const storage of map.storages) {
    const node = storage.node ?? online[0];
    if (node === undefined) continue;
    const path = `/nodes/${node}/storage/${storage.id}/content`;
    const what = `list the volumes of VMID ${vmid} on ${storage.id}`;
    const rows = await readAs(cluster, volumes, { op: 'volumes', what, path, query: { vmid } }, signal);
    for (const { volid } of rows) found.add(storage.shared ? volid : `${volid} on ${node}`);
  }
  return [...found].sort();
}
