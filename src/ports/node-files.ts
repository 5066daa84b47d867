import type { IdentityRange } from '../core/lxc/identities.js';
import type { Call } from './call.js';
import type { CheckFinding } from './hypervisor.js';

/** Where the config of a container lies: only the node that owns the container may write it. */
export interface ContainerAt {
  readonly node: string;
  readonly vmid: number;
}

export interface ContainerConfigFile {
  /** The whole file, sections of snapshots and pending changes included. */
  readonly text: string;
  /** SHA-1 of the text, hex: the `digest` that the API gives for the same config. */
  readonly digest: string;
}

/** One raw line of a container's config, e.g. `['lxc.idmap', 'u 0 100000 65536']`. */
export type RawLine = readonly [key: string, value: string];

/**
 * The only folders of a node that we write to. `snippets` of a storage that holds them: names begin with `hatchery`.
 * `hooks`, `arguments` and `reports` lie below `/var/lib/hatchery`; `reports` is what hooks of containers write there for us.
 */
export type FilePlace =
  { readonly in: 'snippets'; readonly storage: string } | { readonly in: 'hooks' | 'arguments' | 'reports' };

/** `name`: letters, digits and `._-`, at most 128; never a path. */
export interface NodeFileRef {
  readonly node: string;
  readonly place: FilePlace;
  readonly name: string;
}

export interface NodeFile {
  /** Absolute, on the node. */
  readonly path: string;
  /** Of the content, hex. */
  readonly sha256: string;
  /** `undefined` = none of these. */
  readonly mode: FileMode | undefined;
}

/** 0600, 0644, 0755; `guest` = 0600 of the root of unprivileged containers, which is the node's id 100000. */
export type FileMode = 'private' | 'readable' | 'runnable' | 'guest';

/** What containers of a cluster may want of any node. */
export interface NodeNeeds {
  readonly identities: readonly IdentityRange[];
  /** Folders, by name. */
  readonly homes: Readonly<Record<string, string>>;
  /** Containers write reports there. */
  readonly reports: boolean;
}

/** `count` ids from `start` on. */
export interface IdRange {
  readonly start: number;
  readonly count: number;
}

/**
 * The files of a cluster's nodes, as root sees them. Calls of one turn of the event loop to one node are one conversation with it, done in their
 * order, each with its own outcome; what several writers may change is changed under the node's own lock. Every write is whole or not there, and says so again when it is repeated: a late one does no harm.
 * Errors: `cluster-unreachable` with `facts.reason` `node-unreachable` (nothing was done, retry later), `host-key-changed` (nothing was said to it; after-fix),
 * `permission-missing` (after-fix), `outcome-unknown` (a write was sent, no usable answer; it may be repeated), `lock-timeout`, `cluster-no-quorum`, `not-found` (no such container on this node),
 * `remote-refused` with `facts.reason`: `digest-mismatch` (changed since it was read, retry later), `wrong-node`, `outdated` (the installed `hatchery-node`), `no-storage`.
 */
export interface NodeFiles {
  readonly cluster: string;
  /** `undefined` = this node has no such container. */
  readContainerConfig(at: ContainerAt, call: Call): Promise<ContainerConfigFile | undefined>;
  /**
   * Puts `lines` in the place of all raw `lxc.*` lines of the main part, before the first section; nothing is written when they are there already.
   * Refused when the file's digest is not `digest` any more, or while the config has a `lock`. Gives the file as it was read back.
   */
  replaceRawLines(
    at: ContainerAt,
    change: { readonly digest: string; readonly lines: readonly RawLine[] },
    call: Call,
  ): Promise<ContainerConfigFile>;
  /**
   * Writes beside it, then renames; at most 1 MiB. Nothing is written when the same file is there, or any of this mode with `keeps`: somebody
   * else writes on in it. Gives what was read back.
   */
  putFile(
    file: NodeFileRef,
    content: { readonly bytes: Buffer; readonly mode: FileMode; readonly keeps?: boolean },
    call: Call,
  ): Promise<NodeFile>;
  /** `undefined` = not there. A link or anything else that is no plain file is `remote-refused`. */
  readFile(file: NodeFileRef, call: Call): Promise<(NodeFile & { readonly bytes: Buffer }) | undefined>;
  /** Names of ours among the snippets of a storage there. */
  listSnippets(node: string, storage: string, call: Call): Promise<ReadonlySet<string>>;
  /** The last 16 KiB of each report that is there, by name; text of containers, in whatever state. At most 1,000. */
  readReports(node: string, names: readonly string[], call: Call): Promise<ReadonlyMap<string, string>>;
  removeFile(file: NodeFileRef, call: Call): Promise<{ existed: boolean }>;
  /** What `root` may map into containers there: its lines of `/etc/subuid` and `/etc/subgid`. */
  idRanges(node: string, call: Call): Promise<{ uid: readonly IdRange[]; gid: readonly IdRange[] }>;
  /** Without any link in it; `undefined` = there is nothing. `mount` = where the file system that it is on is mounted. */
  resolvePath(
    node: string,
    path: string,
    call: Call,
  ): Promise<{ path: string; isDirectory: boolean; mount: string } | undefined>;
  /** Whether each node, those that are off included, can be worked on and has what containers may want of it. */
  check(nodes: readonly string[], needs: NodeNeeds, call: Call): Promise<readonly CheckFinding[]>;
}
