import { z } from 'zod';
import { HatcheryError } from '../core/errors.js';
import { parseRawLines } from '../core/lxc/raw-lines.js';
import { defineEffect, type EffectLook, type StepPorts } from '../plan/step.js';
import type { Call } from '../ports/call.js';
import type { NodeFileRef } from '../ports/node-files.js';
import type { MarkIdentity } from '../core/mark.js';
import { findContainer, writeRawLines, type FoundContainer } from './container-node.js';

/** How what is written on nodes for containers is removed again. */

const retry = { attempts: 12, first: '2s', max: '2m' } as const;
const nothing: EffectLook = { found: 'nothing' };

interface ContainerConfig {
  readonly cluster: string;
  readonly vmid: number;
}

const find = (
  { cluster, vmid }: ContainerConfig,
  ports: StepPorts,
  machine: { readonly identity: MarkIdentity; readonly node: string },
  call: Call,
): Promise<FoundContainer | undefined> =>
  findContainer(
    { files: ports.nodeFiles(cluster), hypervisor: ports.hypervisor(cluster) },
    { ...machine.identity, vmid },
    machine.node,
    call,
  );

/** Lines of the kinds that we write; what a template brought otherwise stays. */
export const containerConfig = defineEffect<ContainerConfig>({
  kind: 'container-config',
  version: 1,
  payload: z.object({ cluster: z.string(), vmid: z.number().int() }),
  locks: ({ cluster, vmid }) => [`guest:${cluster}/${vmid}`],
  timeout: '3m',
  retry,
  async look(payload, ports, { machine, call }) {
    const found = await find(payload, ports, machine, call).catch(foreignLook);
    if (found === undefined) return nothing;
    if ('found' in found) return found;
    const { rawLines } = found.file;
    const count = rawLines.length - parseRawLines(rawLines).others.length;
    if (count === 0) return nothing;
    return {
      found: 'ours',
      proof: `the config of guest ${payload.vmid} on ${found.at.node} carries our mark, and ${count} raw lines`,
    };
  },
  async undo(payload, ports, { machine, call, confirmed }) {
    const files = ports.nodeFiles(payload.cluster);
    // What was never ours has no line of ours.
    const found = await find(payload, ports, machine, call).catch((error: unknown) => {
      if (!confirmed && isForeign(error)) return undefined;
      throw error;
    });
    if (found) await writeRawLines(files, found, parseRawLines(found.file.rawLines).others, call);
  },
});

const isForeign = (error: unknown): boolean =>
  error instanceof HatcheryError && error.code === 'foreign-guest';

function foreignLook(error: unknown): EffectLook {
  if (error instanceof HatcheryError && isForeign(error)) return { found: 'foreign', why: error.message };
  throw error;
}

interface HookFiles {
  readonly cluster: string;
  readonly node: string;
  readonly files: readonly { readonly in: 'hooks' | 'arguments' | 'reports'; readonly name: string }[];
}

const filesOf = ({ node, files }: HookFiles): NodeFileRef[] =>
  files.map(({ in: folder, name }) => ({ node, place: { in: folder }, name }));

/** Files on a node whose names hold the id of their machine: nobody else writes them. */
export const hookFilesOfMachine = defineEffect<HookFiles>({
  kind: 'hook-files',
  version: 1,
  payload: z.object({
    cluster: z.string(),
    node: z.string(),
    files: z.array(z.object({ in: z.enum(['hooks', 'arguments', 'reports']), name: z.string() })),
  }),
  locks: ({ cluster, node, files }) =>
    files.slice(0, 1).map(({ name }) => `hook-files:${cluster}/${node}/${name}`),
  timeout: '3m',
  retry,
  async look(payload, ports, { call }) {
    for (const file of filesOf(payload)) {
      const found = await ports.nodeFiles(payload.cluster).readFile(file, call);
      if (found) return { found: 'ours', proof: `${found.path} on ${file.node} bears the id of the machine` };
    }
    return nothing;
  },
  async undo(payload, ports, { call }) {
    const files = ports.nodeFiles(payload.cluster);
    await Promise.all(filesOf(payload).map((file) => files.removeFile(file, call)));
  },
});
