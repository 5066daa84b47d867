import { z } from 'zod';
import { defineEffect } from '../plan/step.js';
import type { NodeFileRef } from '../ports/node-files.js';
import { allDone } from './all-done.js';
import { isUnreachable, snippetLocks, unlessUnreachable } from './snippet-files.js';

interface SnippetFiles {
  readonly cluster: string;
  readonly storage: string;
  readonly shared: boolean;
  readonly nodes: readonly string[];
  readonly offNodes: readonly string[];
  readonly names: readonly string[];
}

const filesOn = (node: string, { storage, names }: SnippetFiles): NodeFileRef[] =>
  names.map((name) => ({ node, place: { in: 'snippets', storage }, name }));

/** A shared storage is the same from each node: the first that answers will do. */
async function fromAny<T>(
  [node = '', ...others]: readonly string[],
  work: (node: string) => Promise<T>,
): Promise<T> {
  try {
    return await work(node);
  } catch (error) {
    if (others.length === 0 || !isUnreachable(error)) throw error;
    return fromAny(others, work);
  }
}

/** Cloud-init files whose names hold the id of their machine: nobody else writes them. */
export const snippetFilesOfMachine = defineEffect<SnippetFiles>({
  kind: 'snippet-files',
  version: 1,
  payload: z.object({
    cluster: z.string(),
    storage: z.string(),
    shared: z.boolean(),
    nodes: z.array(z.string()),
    offNodes: z.array(z.string()),
    names: z.array(z.string()),
  }),
  locks: ({ cluster, names }) => snippetLocks(cluster, names),
  timeout: '3m',
  retry: { attempts: 12, first: '2s', max: '2m' },
  async look(payload, ports, { call }) {
    const files = ports.nodeFiles(payload.cluster);
    const proofOn = async (node: string): Promise<string | undefined> => {
      for (const file of filesOn(node, payload)) {
        const found = await files.readFile(file, call);
        if (found) return `${found.path} on ${node} bears the id of the machine`;
      }
      return undefined;
    };
    const { shared, nodes } = payload;
    let proof = shared ? await fromAny(nodes, proofOn) : undefined;
    for (const node of shared ? [] : nodes) proof ??= await proofOn(node);
    return proof === undefined ? { found: 'nothing' } : { found: 'ours', proof };
  },
  async undo(payload, ports, { call }) {
    const files = ports.nodeFiles(payload.cluster);
    const removeOn = (node: string): Promise<void> =>
      allDone(filesOn(node, payload).map((file) => files.removeFile(file, call)));
    const { shared, nodes, offNodes } = payload;
    if (shared) return fromAny(nodes, removeOn);
    // Only a person can have put them on a node that was off.
    const copies = offNodes.map((node) => removeOn(node).catch(unlessUnreachable));
    await allDone([...nodes.map(removeOn), ...copies]);
  },
});
