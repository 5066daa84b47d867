import { z } from 'zod';
import { accountName } from '../account-name.js';
import { HatcheryError } from '../errors.js';

/** Cloud-init data of virtual machines that the cluster's API cannot hold: files that Proxmox VE calls snippets, put on the nodes over SSH. */

/** Parts of cloud-init data that a snippet takes the place of; `vendor` is given to the guest besides the others. */
export const SNIPPET_PARTS = ['user', 'network', 'vendor'] as const;
export type SnippetPart = (typeof SNIPPET_PARTS)[number];

/** Said elsewhere in the blueprint or the roster, and checked there. */
const OURS = [
  ...['hostname', 'fqdn', 'manage_etc_hosts', 'user', 'users', 'ssh_authorized_keys'],
  ...['password', 'passwd', 'chpasswd'],
];
/** Of a part as JSON. A node takes 1 MiB a file, and no name is ten times as long as its placeholder. */
const LARGEST_PART = 65_536;

const document = z
  .record(z.string(), z.json(), { error: 'write cloud-init data as keys and values' })
  .refine((data) => Buffer.byteLength(JSON.stringify(data)) <= LARGEST_PART, {
    error: `write at most ${LARGEST_PART} bytes`,
  });
const cloudConfig = document
  .refine((data) => !Object.keys(data).some((key) => OURS.includes(key)), {
    error: `write no ${OURS.join(', ')}: name, first user and keys of a machine come from the blueprint and the roster`,
  })
  .refine(({ bootcmd }) => bootcmd === undefined || Array.isArray(bootcmd), {
    error: 'write bootcmd as a list',
  });

/** Of a blueprint. Texts may hold `{login}`, `{machine}` and `{mac}`; `${login}` is left to the shell. */
export const snippetsSchema = z
  .strictObject({
    user: cloudConfig.optional(),
    network: document.optional(),
    vendor: cloudConfig.optional(),
  })
  .refine((data) => SNIPPET_PARTS.some((part) => data[part] !== undefined), {
    error: 'write user, network or vendor',
  });
export type Snippets = z.infer<typeof snippetsSchema>;

/** The files of one machine, decided at accept: whatever build puts them, they are the same. */
export const snippetsInput = z.object({
  storage: z.string(),
  /** One file is seen by all nodes; each of `nodes` can reach it. Otherwise each has one of its own. */
  shared: z.boolean(),
  /** Where the machine may be started; the first is the one that it was placed on. */
  nodes: z.array(z.string()),
  /** The same, of those that were off: nobody waits for them, and somebody may copy the files there. */
  offNodes: z.array(z.string()),
  files: z.array(z.object({ part: z.enum(SNIPPET_PARTS), name: z.string(), text: z.string() })),
});
export type SnippetsInput = z.infer<typeof snippetsInput>;

export interface SnippetMachine {
  readonly id: string;
  readonly name: string;
  readonly mac: string;
  readonly login: string;
  readonly user: { readonly name: string; readonly sshKeys: readonly string[] };
}

/**
 * The files of a machine. Everything is put in by a serializer: a text, whatever is in it, stays one text.
 * User data takes the place of what the cluster would make, so it also says what that says: host name, first user and keys.
 * `phoneHome`: command with which the machine tells its address; it goes wherever it is not shadowed.
 */
export function snippetFiles(
  snippets: Snippets,
  machine: SnippetMachine,
  phoneHome: readonly string[] | undefined,
): SnippetsInput['files'] {
  const { user, network, vendor } = snippets;
  const texts: Record<SnippetPart, string | undefined> = {
    user:
      user &&
      cloudConfigText({
        ...firstUser(machine),
        ...fill(user, machine),
        // A `bootcmd` of user data hides that of vendor data.
        ...(user['bootcmd'] !== undefined && bootCommands(user, machine, phoneHome)),
      }),
    network: network && `${json(fill(network, machine))}\n`,
    vendor:
      vendor && cloudConfigText({ ...fill(vendor, machine), ...bootCommands(vendor, machine, phoneHome) }),
  };
  return SNIPPET_PARTS.flatMap((part) => {
    const text = texts[part];
    return text === undefined ? [] : [{ part, name: snippetName(machine.id, part), text }];
  });
}

/** Nobody else gives files this name. */
const snippetName = (machineId: string, part: SnippetPart): string => `hatchery-${machineId}-${part}.yaml`;

/** Volume ids, by the part that the guest gets from them. */
export type SnippetVolumes = Readonly<Partial<Record<SnippetPart, string>>>;

export const snippetVolumes = ({
  storage,
  files,
}: Pick<SnippetsInput, 'storage' | 'files'>): SnippetVolumes =>
  Object.fromEntries(files.map(({ part, name }) => [part, `${storage}:snippets/${name}`]));

/** What of a login cannot be used as the blueprint asks; `undefined` = all can. */
export function snippetLoginProblem(snippets: Snippets, login: string): string | undefined {
  if (!/(?<!\$)\{login\}/.test(JSON.stringify(snippets)) || accountName.safeParse(login).success)
    return undefined;
  return 'Its cloud-init data would have it in commands and paths: write letters without accents, digits, dots, hyphens and underscores.';
}

interface SnippetSite {
  readonly name: string;
  readonly snippetStorage?: string | undefined;
  readonly ssh?: { readonly hostKeys: Readonly<Record<string, string>> } | undefined;
}

/** Why a cluster cannot give snippets to machines; `undefined` = it can. */
export function snippetSiteProblem({ name, snippetStorage, ssh }: SnippetSite): string | undefined {
  if (ssh === undefined) return `cluster ${name} has no ssh: cloud-init files are put on its nodes over it`;
  if (snippetStorage !== undefined) return undefined;
  return `cluster ${name} has no snippetStorage: write there which of its storages takes cloud-init files`;
}

/** Where a cluster's snippets lie, from its inventory. */
export interface SnippetPlace {
  readonly storage: string;
  readonly shared: boolean;
  /** Nodes that are up, may get machines of the blueprint and can be worked on. */
  readonly nodes: readonly string[];
  /** The same, of those that are off. */
  readonly offNodes: readonly string[];
}

/** Errors: `settings-invalid` when nobody sees such a storage. */
export function snippetPlace(
  cluster: SnippetSite & { readonly nodes: { readonly exclude: readonly string[] } },
  inventory: {
    readonly nodes: readonly { readonly name: string; readonly online: boolean }[];
    readonly storages: readonly {
      readonly id: string;
      readonly node: string | undefined;
      readonly shared: boolean;
    }[];
  },
  allowed: { readonly only?: readonly string[] | undefined; readonly exclude: readonly string[] } | undefined,
): SnippetPlace {
  const problem = snippetSiteProblem(cluster);
  const storage = cluster.snippetStorage;
  if (problem !== undefined || storage === undefined) throw unusable(problem ?? '', 'Write it there.');
  const rows = inventory.storages.filter(({ id }) => id === storage);
  if (rows.length === 0)
    throw unusable(
      `cluster ${cluster.name} shows us no storage ${storage}, which is its snippetStorage`,
      `Mend the name, or let our token see it: hatchery cluster check ${cluster.name} gives the command.`,
    );
  const shared = rows.some((row) => row.shared);
  const mayHave = inventory.nodes.filter(
    ({ name }) =>
      cluster.ssh?.hostKeys[name] !== undefined &&
      !cluster.nodes.exclude.includes(name) &&
      !(allowed?.exclude.includes(name) ?? false) &&
      (allowed?.only?.includes(name) ?? true) &&
      (shared || rows.some(({ node }) => node === name)),
  );
  const named = (isOn: boolean): string[] =>
    mayHave.filter(({ online }) => online === isOn).map(({ name }) => name);
  return { storage, shared, nodes: named(true), offNodes: named(false) };
}

/** Where the files of a machine go: onto every node that may start it, because each start reads them anew. */
export function snippetNodes(
  place: SnippetPlace,
  node: string,
  isDiskShared: boolean,
): Pick<SnippetsInput, 'nodes' | 'offNodes'> {
  if (!isDiskShared && !place.shared) return { nodes: [node], offNodes: [] };
  return {
    nodes: [node, ...place.nodes.filter((name) => name !== node)],
    offNodes: place.shared ? [] : [...place.offNodes],
  };
}

/** What people should know of it before they create machines. */
export function snippetNotes({ storage, shared, nodes, offNodes }: SnippetPlace): string[] {
  const where = shared ? `the shared storage ${storage}` : `${storage} of each node that may start it`;
  const off =
    shared || offNodes.length === 0
      ? []
      : [
          `${offNodes.join(', ')} is off: machines made now do not start there until their files are copied (${storage}:snippets/hatchery-*, from ${nodes.join(' or ')}).`,
        ];
  return [`Each machine gets cloud-init files on ${where}, for as long as it exists.`, ...off];
}

const unusable = (why: string, hint: string): HatcheryError =>
  new HatcheryError('settings-invalid', `Unable to give machines cloud-init files: ${why}`, { hint });

type Json = z.core.util.JSONType;
type Document = Readonly<Record<string, Json>>;

/** As the cluster would say it. */
const firstUser = ({ name, user }: SnippetMachine): object => ({
  hostname: name,
  manage_etc_hosts: true,
  user: user.name,
  ...(user.name === 'root' ? { disable_root: false } : { users: ['default'] }),
  ssh_authorized_keys: user.sshKeys,
  chpasswd: { expire: false },
});

function bootCommands(
  { bootcmd = [] }: Document,
  machine: SnippetMachine,
  phoneHome: readonly string[] | undefined,
): object {
  const theirs = fill({ bootcmd }, machine)['bootcmd'] as Json[];
  const all = [...(phoneHome ? [phoneHome] : []), ...theirs];
  return all.length === 0 ? {} : { bootcmd: all };
}

const cloudConfigText = (data: object): string => `#cloud-config\n${json(data)}\n`;

/** A line for each key. JSON is YAML, but for characters that YAML takes for line breaks or does not take at all. */
function json(data: object): string {
  const lines = Object.entries(data).map(
    ([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`,
  );
  return `{\n${lines.join(',\n')}\n}`.replaceAll(
    // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
    /[\u007f-\u009f\u2028\u2029\ufeff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function fill(data: Document, machine: SnippetMachine): Record<string, Json> {
  return Object.fromEntries(Object.entries(data).map(([key, value]) => [key, filled(value, machine)]));
}

function filled(value: Json, machine: SnippetMachine): Json {
  if (typeof value === 'string')
    return value.replaceAll(/(?<!\$)\{(login|machine|mac)\}/g, (_, name: string) =>
      name === 'login' ? machine.login : name === 'machine' ? machine.name : machine.mac,
    );
  if (Array.isArray(value)) return value.map((inner) => filled(inner, machine));
  return typeof value === 'object' && value !== null ? fill(value, machine) : value;
}
