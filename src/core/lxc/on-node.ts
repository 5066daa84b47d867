import { z } from 'zod';
import { accountName } from '../account-name.js';
import { HatcheryError } from '../errors.js';
import { needsNode, type ClusterContainers, type ContainerOnNode } from './container-definition.js';
import { firstBootSchema } from './first-boot.js';
import { hookArgument } from './hook-definition.js';
import { idMappings } from './identities.js';
import { parseRawLines, type HookCall, type HostMount, type RawConfig, type RawLine } from './raw-lines.js';

const hookInput = z.object({
  name: z.string(),
  phase: z.enum(['mount', 'start']),
  /** Of the script: a run keeps the one that it was accepted with. */
  sha256: z.string(),
  reports: z.boolean(),
  arguments: z.record(z.string(), hookArgument),
});
export type HookInput = z.infer<typeof hookInput>;

/** What is done for one container on its node, decided at accept. No secrets: a domain is the name of its service. */
export const onNodeInput = z.object({
  identities: z.array(z.object({ from: z.number().int(), count: z.number().int() })),
  home: z.object({ root: z.string(), folder: z.string(), at: z.string(), readOnly: z.boolean() }).optional(),
  /** Our own hook, `first-boot` among the hooks, gets this besides its arguments. */
  firstBoot: firstBootSchema.strip().optional(),
  hooks: z.array(hookInput),
  templateLines: z.array(z.string()),
});
export type OnNodeInput = z.infer<typeof onNodeInput>;

/** Name of our own hook in the registry. */
export const FIRST_BOOT = 'first-boot';

/** A registered hook, as far as a run must know it. */
export type RegisteredHook = Omit<HookInput, 'arguments'>;

/**
 * What a container of this blueprint and owner gets on its node; nothing when it asks for nothing.
 * Error: `not-found` for a hook or home that an older version of the blueprint names and the site has no longer.
 */
export function composeOnNode(
  wanted: ContainerOnNode,
  cluster: ClusterContainers,
  hooks: ReadonlyMap<string, RegisteredHook>,
  login: string,
): OnNodeInput | undefined {
  if (!needsNode(wanted)) return undefined;
  const use = (name: string, given: Readonly<Record<string, string>>): HookInput => {
    const hook = hooks.get(name);
    if (hook === undefined) throw gone(`the hook ${name} is not registered`);
    return { ...hook, arguments: { ...given } };
  };
  const { home, firstBoot } = wanted;
  const root = home && cluster.homes[home.under];
  if (home && root === undefined) throw gone(`the cluster has no homes ${home.under}`);
  return {
    identities: wanted.identities,
    ...(home &&
      root !== undefined && {
        home: {
          root,
          folder: login,
          at: home.at.replaceAll('{login}', () => login),
          readOnly: home.readOnly,
        },
      }),
    ...(firstBoot && { firstBoot }),
    hooks: [
      ...wanted.hooks.map((one) => use(one.hook, one.arguments)),
      ...(firstBoot ? [use(FIRST_BOOT, {})] : []),
    ],
    templateLines: cluster.templateLines,
  };
}

/** What of a login cannot be used as the blueprint asks; `undefined` = all can. */
export function loginProblem({ home, firstBoot }: ContainerOnNode, login: string): string | undefined {
  if (home === undefined && firstBoot?.signIn === undefined) return undefined;
  return accountName.safeParse(login).success
    ? undefined
    : 'Its home or account in the container would have this name: write letters without accents, digits, dots, hyphens and underscores.';
}

const gone = (why: string): HatcheryError =>
  new HatcheryError('not-found', `Unable to compose the machine: ${why}`, {
    hint: 'Bring it back, or create a new batch with the present version of the blueprint.',
  });

/** Where a hook's files lie on the node. */
export interface PlacedHook {
  readonly hook: Pick<HookInput, 'name' | 'phase'>;
  readonly script: string;
  readonly arguments: string;
  readonly report: string | undefined;
}

/** The raw lines of a container: what stays, and what goes when its first boot is over. */
export function rawConfig(
  { identities }: Pick<OnNodeInput, 'identities'>,
  home: HostMount | undefined,
  placed: readonly PlacedHook[],
): RawConfig {
  const hooks = placed.map(hookLines);
  return {
    idMappings: idMappings(identities),
    mounts: [...(home ? [home] : []), ...hooks.flatMap(({ mounts }) => mounts)],
    hooks: hooks.map(({ call }) => call),
  };
}

/**
 * The folders of the node are not those of the container: a start hook sees its files side by side, and LXC takes the whole line for its path.
 * A mount hook runs on the node and is told where its files lie.
 */
function hookLines({ hook, script, arguments: given, report }: PlacedHook): {
  mounts: HostMount[];
  call: HookCall;
} {
  const reports = report === undefined ? [] : [report];
  if (hook.phase === 'mount')
    return { mounts: [], call: { phase: 'mount', path: script, arguments: [given, ...reports] } };
  const shown = (source: string, name: string, readOnly: boolean): HostMount => ({
    source,
    target: `${OURS}${hook.name}/${name}`,
    kind: 'file',
    readOnly,
    optional: false,
  });
  return {
    mounts: [
      shown(script, 'hook', true),
      shown(given, 'arguments', true),
      ...reports.map((source) => shown(source, 'report', false)),
    ],
    call: { phase: 'start', path: `${OURS}${hook.name}/hook`, arguments: [] },
  };
}

/** In the container. */
const OURS = '/var/lib/hatchery/';

/** Whether a line is there for the first boot only. */
export function isOfHook(line: RawLine): boolean {
  const { hooks, mounts } = parseRawLines([line]);
  return hooks.length > 0 || mounts.some(({ target }) => target.startsWith(OURS));
}
