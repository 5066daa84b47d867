import { HatcheryError } from '../../core/errors.js';
import type { Call } from '../../ports/call.js';
import type { CheckFinding, PlacedSnippets } from '../../ports/hypervisor.js';
import type { NodeFiles } from '../../ports/node-files.js';

/** Whether each node that is up has the cloud-init files that machines of ours would be started with there. One list for each node and storage. */
export async function checkSnippetFiles(
  files: NodeFiles,
  placed: readonly PlacedSnippets[],
  online: readonly string[],
  call: Call,
): Promise<readonly CheckFinding[]> {
  const wanted = new Map<string, { node: string; storage: string; names: string[] }>();
  for (const { storage, shared, nodes, names } of placed) {
    const up = nodes.filter((node) => online.includes(node));
    for (const node of shared ? up.slice(0, 1) : up) {
      const place = wanted.get(`${node}/${storage}`) ?? { node, storage, names: [] };
      place.names.push(...names);
      wanted.set(`${node}/${storage}`, place);
    }
  }
  return Promise.all([...wanted.values()].map((place) => findingOf(files, place, call)));
}

async function findingOf(
  files: NodeFiles,
  {
    node,
    storage,
    names,
  }: { readonly node: string; readonly storage: string; readonly names: readonly string[] },
  call: Call,
): Promise<CheckFinding> {
  const subject = `cloud-init files on ${node}`;
  try {
    const there = await files.listSnippets(node, storage, call);
    const missing = names.filter((name) => !there.has(name));
    if (missing.length === 0)
      return { ok: true, subject, detail: `all ${names.length} are on storage ${storage}` };
    return {
      ok: false,
      subject,
      detail: `${missing.length} of ${names.length} are missing on storage ${storage}: their machines do not start there (${missing[0]} is one)`,
      remedy: `copy hatchery-* there from a node that has them; the folder is that of: pvesm path ${storage}:snippets/${missing[0]}`,
    };
  } catch (error) {
    if (call.signal.aborted || !(error instanceof HatcheryError)) throw error;
    return {
      ok: false,
      subject,
      detail: error.message,
      ...(error.hint !== undefined && { remedy: error.hint }),
    };
  }
}
