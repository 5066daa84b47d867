import { z } from 'zod';
import { slug } from '../slug.js';
import { firstBootSchema } from './first-boot.js';
import { hookUseSchema } from './hook-definition.js';
import { LOWEST_IDENTITY, identitiesProblem } from './identities.js';
import { isPlainPath } from './raw-lines.js';

/** What sites write about containers beyond what the cluster's API knows. It is put on the node over SSH. */

const identityRange = z.strictObject({
  from: z
    .number()
    .int()
    .min(LOWEST_IDENTITY, `write an id from ${LOWEST_IDENTITY} on: those below are accounts of the node`),
  count: z.number().int().min(1),
});

const plainPath = z
  .string()
  .refine(isPlainPath, 'write an absolute path of letters, digits, dots, hyphens and underscores');

/** Folders of the node itself, and of nobody's homes. */
const OF_THE_NODE = /^\/(?:bin|boot|dev|etc|lib|lib32|lib64|libx32|proc|root|run|sbin|sys|usr)(?:\/|$)/;
/** Where the kernel, and our own files, are in a container. */
const OF_THE_CONTAINER = /^\/(?:dev|proc|sys|var\/lib\/hatchery)(?:\/|$)/;

/** Of a cluster: what blueprints may ask for. */
export const clusterContainersSchema = z.strictObject({
  /** Ids that containers may share with their node, e.g. those of a domain's users. */
  identities: z.array(identityRange).default([]),
  /** Folders of every node under which homes lie, by name. */
  homes: z
    .record(
      slug,
      plainPath.refine(
        (path) => !OF_THE_NODE.test(path),
        'write a folder of homes: this one is of the node itself',
      ),
    )
    .default({}),
  /** Raw lines that templates may bring along, as they stand in their config; any other refuses the template. */
  templateLines: z
    .array(
      z
        .string()
        .regex(/^lxc\.[a-z0-9_.]+: \S.*$/, 'write a whole line, e.g. lxc.cgroup2.devices.allow: c 226:* rwm'),
    )
    .default([]),
});
export type ClusterContainers = z.infer<typeof clusterContainersSchema>;

/** Of a blueprint, beside what the API sets. */
export const containerOnNodeShape = {
  /** Ids that are the same in the container and on its node. */
  identities: z.array(identityRange).default([]),
  /** The owner's home, `<folder of the cluster>/<login>` on the node. */
  home: z
    .strictObject({
      under: slug,
      at: z
        .string()
        .refine(
          (at) => isPlainPath(at.replaceAll('{login}', 'x')),
          'write an absolute path such as /home/{login}',
        )
        .refine(
          (at) => !OF_THE_CONTAINER.test(at),
          'write another path: here are files of the kernel, or ours',
        )
        .default('/home/{login}'),
      readOnly: z.boolean().default(false),
    })
    .optional(),
  firstBoot: firstBootSchema.optional(),
  /** Registered hooks that run at the first start. */
  hooks: z.array(hookUseSchema).max(8).default([]),
};
const containerOnNode = z.object(containerOnNodeShape);
export type ContainerOnNode = z.infer<typeof containerOnNode>;

/** Whether anything of it needs SSH to the node. */
export const needsNode = ({ identities, home, firstBoot, hooks }: ContainerOnNode): boolean =>
  identities.length > 0 || home !== undefined || firstBoot !== undefined || hooks.length > 0;

/** Why a cluster does not give what a blueprint asks for, with the place in the blueprint's `container`; empty = it gives it. */
export function clusterProblems(
  wanted: ContainerOnNode,
  cluster: { readonly name: string; readonly containers: ClusterContainers; readonly hasSsh: boolean },
): { readonly path: readonly string[]; readonly sentence: string }[] {
  if (!needsNode(wanted)) return [];
  const problems: { path: readonly string[]; sentence: string }[] = [];
  if (!cluster.hasSsh)
    problems.push({
      path: [],
      sentence: `cluster ${cluster.name} has no ssh: identities, home, hooks and firstBoot need it`,
    });
  const identities = identitiesProblem(wanted.identities, cluster.containers.identities);
  if (identities !== undefined)
    problems.push({ path: ['identities'], sentence: `${identities} (cluster ${cluster.name})` });
  if (wanted.home && !Object.hasOwn(cluster.containers.homes, wanted.home.under))
    problems.push({
      path: ['home', 'under'],
      sentence: `write a name of containers.homes of cluster ${cluster.name} (${wanted.home.under} is none)`,
    });
  return problems;
}
