import type { HookInput } from '../core/lxc/on-node.js';
import type { EffectIntent } from '../plan/step.js';
import type { NodeFileRef } from '../ports/node-files.js';

/** A hook's files on the node that runs it: each machine has its own, so that they go when its first boot is over. */
type HookPlace = 'hooks' | 'arguments' | 'reports';

export const hookFile = (
  node: string,
  place: HookPlace,
  machineId: string,
  hook: Pick<HookInput, 'name'>,
): NodeFileRef => ({ node, place: { in: place }, name: `${machineId}.${hook.name}` });

/** Where it lies on the node, as every node has it. */
export const pathOnNode = ({ place, name }: NodeFileRef): string => `/var/lib/hatchery/${place.in}/${name}`;

export const hookFiles = (node: string, machineId: string, hooks: readonly HookInput[]): NodeFileRef[] =>
  hooks.flatMap((hook) => {
    const places: HookPlace[] = ['hooks', 'arguments', ...(hook.reports ? (['reports'] as const) : [])];
    return places.map((place) => hookFile(node, place, machineId, hook));
  });

/** All of them on one node. The undo is `hook-files@1`. */
export const hookFilesEffect = (
  cluster: string,
  node: string,
  machineId: string,
  hooks: readonly HookInput[],
): EffectIntent => ({
  kind: 'hook-files',
  version: 1,
  system: `${cluster}/${node}`,
  key: machineId,
  payload: {
    cluster,
    node,
    files: hookFiles(node, machineId, hooks).map(({ place, name }) => ({ in: place.in, name })),
  },
});
