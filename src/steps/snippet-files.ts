import type { MachineInput } from '../core/machine.js';
import type { SnippetsInput } from '../core/cloud-init/snippets.js';
import { HatcheryError } from '../core/errors.js';
import type { EffectIntent, MachineSnapshot } from '../plan/step.js';
import type { Call } from '../ports/call.js';
import type { NodeFiles } from '../ports/node-files.js';
import { allDone } from './all-done.js';

/** One writer at a time, to put and to remove. */
export const snippetLocks = (cluster: string, names: readonly string[]): string[] =>
  names.slice(0, 1).map((name) => `snippets:${cluster}/${name}`);

/** The cloud-init files of a machine on these nodes. The undo is `snippet-files@1`. */
export const snippetFilesEffect = (
  machine: Pick<MachineInput, 'id' | 'cluster'>,
  { storage, shared, files }: SnippetsInput,
  { nodes, offNodes }: Pick<SnippetsInput, 'nodes' | 'offNodes'>,
): EffectIntent => ({
  kind: 'snippet-files',
  version: 1,
  system: `${machine.cluster}/${shared ? storage : nodes[0]}`,
  key: machine.id,
  payload: {
    cluster: machine.cluster,
    storage,
    shared,
    nodes,
    offNodes,
    names: files.map(({ name }) => name),
  },
});

/** For a guest that went to a node where nobody expected it: files there are one more thing that was made. */
export const snippetFilesElsewhere = (machine: MachineInput, { node }: MachineSnapshot): EffectIntent[] =>
  machine.snippets === undefined || machine.snippets.shared || machine.snippets.nodes.includes(node)
    ? []
    : [snippetFilesEffect(machine, machine.snippets, { nodes: [node], offNodes: [] })];

/** Puts what is not there as it should be. Root alone reads them, and what starts guests is root. */
export async function putSnippets(
  nodeFiles: NodeFiles,
  node: string,
  { storage, files }: SnippetsInput,
  call: Call,
): Promise<void> {
  await allDone(
    files.map(({ name, text }) =>
      nodeFiles.putFile(
        { node, place: { in: 'snippets', storage }, name },
        { bytes: Buffer.from(text), mode: 'private' },
        call,
      ),
    ),
  );
}

/** Certain that nothing was done there. */
export const isUnreachable = (error: unknown): boolean =>
  error instanceof HatcheryError && error.facts['reason'] === 'node-unreachable';

/** For nodes that nobody waits for. */
export function unlessUnreachable(error: unknown): void {
  if (!isUnreachable(error)) throw error;
}
