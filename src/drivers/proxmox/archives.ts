import { HatcheryError } from '../../core/errors.js';
import type { ArchiveInfo } from '../../ports/hypervisor.js';
import { readAs, type Cluster } from './cluster.js';
import type { ClusterReads } from './inventory.js';
import { SharedRead } from './shared-read.js';
import { archiveVolumes, nodeStorages } from './wire.js';

const MAP_AGE_MS = 2_000;
const LIST_AGE_MS = 10_000;

type Listed =
  { readonly archives: readonly ArchiveInfo[] } | { readonly node: string; readonly error: HatcheryError };

/** Container archives on the storages of the nodes. */
export class Archives {
  readonly #cluster: Cluster;
  readonly #reads: ClusterReads;
  readonly #lists: SharedRead<readonly Listed[]>;

  constructor(cluster: Cluster, reads: ClusterReads) {
    this.#cluster = cluster;
    this.#reads = reads;
    this.#lists = new SharedRead(cluster.clock, (signal) => this.#listAll(signal));
  }

  /** One copy for each node that has it, by node. See the port. */
  async named(name: string, signal: AbortSignal): Promise<readonly ArchiveInfo[]> {
    const kept = await this.#lists.get(LIST_AGE_MS * this.#cluster.remoteTimeScale, signal);
    const known = copiesOf(name, archivesOf(kept));
    if (known.length > 0) return known;
    // Whoever has just put it there should not be told that it is missing.
    const lists = await this.#lists.get(0, signal);
    const all = archivesOf(lists);
    const found = copiesOf(name, all);
    if (found.length > 0) return found;
    const unread = lists.find((list) => 'error' in list);
    // A node that cannot be asked may have it.
    if (unread) throw unread.error;
    const names = [...new Set(all.map(({ volume }) => fileOf(volume)))].sort();
    throw new HatcheryError(
      'not-found',
      `Unable to find the archive "${name}": no node of ${this.#cluster.definition.name} that is up has it`,
      {
        hint: `On each node: pveam update && pveam download local <archive>. Archives that we can see: ${names.join(', ') || 'none'}`,
      },
    );
  }

  async #listAll(signal: AbortSignal): Promise<readonly Listed[]> {
    const { usedNodes } = await this.#reads.map(MAP_AGE_MS, signal);
    const online = usedNodes.filter((node) => node.online);
    return Promise.all(
      online.map(async ({ name: node }): Promise<Listed> => {
        try {
          return { archives: await this.#list(node, signal) };
        } catch (error) {
          if (signal.aborted || !(error instanceof HatcheryError)) throw error;
          return { node, error };
        }
      }),
    );
  }

  async #list(node: string, signal: AbortSignal): Promise<ArchiveInfo[]> {
    const storages = await readAs(
      this.#cluster,
      nodeStorages,
      {
        op: 'storage-list',
        what: `list the storages of ${node}`,
        path: `/nodes/${node}/storage`,
        query: { content: 'vztmpl' },
      },
      signal,
    );
    const usable = storages.filter(({ active, enabled }) => active && enabled);
    const lists = await Promise.all(
      usable.map(({ storage }) =>
        readAs(
          this.#cluster,
          archiveVolumes,
          {
            op: 'storage-content',
            what: `list the archives of storage ${storage} on ${node}`,
            path: `/nodes/${node}/storage/${storage}/content`,
            query: { content: 'vztmpl' },
          },
          signal,
        ),
      ),
    );
    return lists.flat().map(({ volid }) => ({ volume: volid, node }));
  }
}

const archivesOf = (lists: readonly Listed[]): readonly ArchiveInfo[] =>
  lists.flatMap((list) => ('archives' in list ? list.archives : []));

const fileOf = (volume: string): string => volume.slice(volume.indexOf('/') + 1);

const byVersion = new Intl.Collator('en', { numeric: true });

/** Of the newest file of this name, one copy a node. Pure. */
export function copiesOf(name: string, all: readonly ArchiveInfo[]): ArchiveInfo[] {
  const isNamed = (file: string): boolean => file === name || file.startsWith(`${name}_`);
  const newest = all
    .map(({ volume }) => fileOf(volume))
    .filter(isNamed)
    .sort(byVersion.compare)
    .at(-1);
  const copies = new Map<string, ArchiveInfo>();
  for (const archive of all.toSorted((a, b) => byVersion.compare(a.volume, b.volume)))
    if (fileOf(archive.volume) === newest && !copies.has(archive.node)) copies.set(archive.node, archive);
  return [...copies.values()].sort((a, b) => byVersion.compare(a.node, b.node));
}
