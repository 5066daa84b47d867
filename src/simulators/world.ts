import type { Act } from './acts.js';

interface WorldNode {
  readonly name: string;
  readonly cores: number;
  readonly memoryMiB: number;
}

export const STORAGE_TYPES = ['rbd', 'lvmthin', 'lvm', 'zfspool', 'nfs', 'cifs', 'cephfs', 'dir'] as const;
export const STORAGE_CONTENTS = [
  'images',
  'rootdir',
  'iso',
  'vztmpl',
  'snippets',
  'backup',
  'import',
] as const;
export type StorageContent = (typeof STORAGE_CONTENTS)[number];

export interface WorldStorage {
  readonly id: string;
  readonly type: (typeof STORAGE_TYPES)[number];
  readonly shared: boolean;
  readonly sizeGiB: number;
  /** What may lie on it. */
  readonly content: readonly StorageContent[];
  /** The only nodes that have it; left out = all. */
  readonly nodes?: readonly string[] | undefined;
  readonly isDisabled?: boolean;
}

/** Whether its volumes are files in folders (`st:105/vm-105-disk-0.qcow2`). */
export function holdsFiles(storage: WorldStorage): boolean {
  return ['nfs', 'cifs', 'cephfs', 'dir'].includes(storage.type);
}

export type RawLine = readonly [key: string, value: string];

export interface WorldGuest {
  readonly vmid: number;
  readonly kind: 'qemu' | 'lxc';
  node: string;
  /** Who made it: a person, or the token id. */
  readonly owner: string;
  /** Unique per creation. */
  readonly incarnation: string;
  /** Keys as in the config file, `description` with real newlines. */
  config: Record<string, string>;
  /** Of a container: the `lxc.*` lines of its file, in their order. Only whoever writes the file can set them. */
  rawLines: readonly RawLine[];
  /** Of a container: its file as somebody wrote it, and as the API would write the same; gone with the next change over the API. */
  handWritten: { readonly text: string; readonly rendered: string } | undefined;
  /** Written while it ran and not hot-pluggable; merged at the next start. */
  pending: Record<string, string | null>;
  status: 'running' | 'stopped';
  startedAtMs: number;
  /** Simulated time from which the agent answers; of a container, its network is up. */
  agentUpAtMs: number;
  /** What DHCP gave at the last start; `undefined` = nothing (its MAC was not allowed). */
  address: string | undefined;
  /** Its processors stand still: `suspend`. */
  isPaused: boolean;
  /** What the cloud-init drive was last generated from; the guest sees these and not those of the config. */
  cloudInit: Record<string, string>;
  /** By name. */
  readonly snapshots: Map<string, WorldSnapshot>;
  /** What its agent ran and nobody has asked about yet. */
  readonly processes: { readonly pid: number; readonly output: string }[];
  /** What was written into it through its agent, or when a container was made: base64 by path. It lies on the guest's disks, as far as snapshots and clones go. */
  files: Map<string, string>;
  /** Its agent froze its file systems. */
  isFrozen: boolean;
}

/** A guest that has just come to be: it is off, and nothing was ever done with it. */
export function newGuest(
  about: Pick<WorldGuest, 'vmid' | 'kind' | 'node' | 'owner' | 'incarnation' | 'config'>,
): WorldGuest {
  return {
    ...about,
    rawLines: [],
    handWritten: undefined,
    pending: {},
    status: 'stopped',
    startedAtMs: 0,
    agentUpAtMs: 0,
    address: undefined,
    isPaused: false,
    cloudInit: {},
    snapshots: new Map(),
    processes: [],
    files: new Map(),
    isFrozen: false,
  };
}

/** Sections of a guest's config file. */
export interface WorldSnapshot {
  readonly config: Record<string, string>;
  readonly rawLines: readonly RawLine[];
  description: string;
  /** Unix time in seconds. */
  readonly time: number;
  parent: string | undefined;
  /** Volume that holds the memory. */
  readonly state: string | undefined;
  /** Sizes of its volumes by volume id. */
  readonly sizesGiB: Readonly<Record<string, number>>;
  /** As in `WorldGuest`. */
  readonly files: ReadonlyMap<string, string>;
}

export interface WorldVolume {
  readonly volid: string;
  readonly storage: string;
  /** `undefined` on shared storages. */
  readonly node: string | undefined;
  readonly vmid: number;
  sizeGiB: number;
  usedGiB: number;
  readonly parent: string | undefined;
}

/** A file on a storage that belongs to no guest: `local:snippets/user.yaml`, `local:iso/debian.iso`. By `volumeKey`. */
export interface WorldFile {
  readonly volid: string;
  readonly storage: string;
  /** `undefined` on shared storages. */
  readonly node: string | undefined;
  readonly content: StorageContent;
  readonly text: string;
  /** Left out = that of the text. */
  readonly sizeBytes?: number;
  /** Left out = `readable`. */
  readonly mode?: NodeFileMode;
}

/** 0600, 0644, 0755; `guest` = 0600 of the root of unprivileged containers. */
export type NodeFileMode = 'private' | 'readable' | 'runnable' | 'guest';

/** `count` ids from `start` on. */
interface IdRange {
  readonly start: number;
  readonly count: number;
}

export interface WorldPool {
  comment: string;
  readonly members: Set<number>;
  readonly storages: Set<string>;
}

/** What the administrator asked of HA for one guest (`vm:105`, `ct:105`). */
export interface WorldHaResource {
  state: 'started' | 'stopped' | 'disabled' | 'ignored';
  maxRestart: number;
  maxRelocate: number;
  failback: boolean;
  comment: string | undefined;
  /** Until PVE 8; later node-affinity rules say it. */
  group: string | undefined;
}

/** A move that somebody asked the HA manager for: live, or stopped here and started there. */
export interface WorldHaMove {
  readonly sid: string;
  readonly how: 'migrate' | 'relocate';
  readonly node: string;
}

export interface WorldHa {
  readonly resources: Map<string, WorldHaResource>;
  /** Keys as in the configuration, by name: node-affinity rules (9), groups (8). */
  readonly rules: Map<string, Record<string, string>>;
  readonly groups: Map<string, Record<string, string>>;
  /** Asked for, and not yet read by the manager. */
  readonly moves: WorldHaMove[];
}

/** A user of Proxmox VE. */
export interface WorldUser {
  /** `name@realm`. */
  readonly id: string;
  /** `undefined` = there is none: nobody can sign in with it. */
  password: string | undefined;
  enabled: boolean;
  /** Seconds since 1970; 0 = never. */
  expire: number;
  firstname?: string;
  lastname?: string;
  email?: string;
  comment?: string;
  keys?: string;
}

export interface WorldToken {
  /** `user@realm!name`. */
  readonly id: string;
  readonly secret: string;
  /** Only the rights of its own entries that its user has too; without it all rights of the user. */
  privsep: boolean;
  /** Seconds since 1970; 0 = as its user. */
  expire: number;
  comment?: string;
}

export interface WorldAclEntry {
  readonly path: string;
  /** User or token. */
  readonly ugid: string;
  readonly role: string;
  /** Does it hold below the path too. */
  readonly propagate: boolean;
}

/** The DHCP server's link-layer filters, MAC lower case with colons. A guest gets an address only if its MAC is allowed when it starts. */
export interface WorldDhcp {
  allowEnabled: boolean;
  denyEnabled: boolean;
  readonly allow: Map<string, { description: string }>;
  readonly deny: Map<string, { description: string }>;
  /** MAC -> IPv4. */
  readonly leases: Map<string, string>;
  /** Who may sign in over WinRM. */
  readonly account: { readonly domain: string; readonly username: string; readonly password: string };
}

export interface WorldGuacamoleUser {
  password: string;
  attributes: Record<string, string | null>;
  /** `connection/<id>`, `connectionGroup/<id>`, `user/<login>`, ... or `system` -> permission names. */
  readonly permissions: Map<string, Set<string>>;
}

export interface WorldGuacamole {
  /** Two sequences: the same number may name a connection and a group. */
  nextConnectionId: number;
  nextGroupId: number;
  readonly users: Map<string, WorldGuacamoleUser>;
  readonly groups: Map<string, WorldGuacamoleGroup>;
  readonly connections: Map<string, WorldGuacamoleConnection>;
}

export interface WorldGuacamoleGroup {
  name: string;
  parent: string;
  type: string;
  attributes: Record<string, string | null>;
}

export interface WorldGuacamoleConnection {
  name: string;
  parent: string;
  protocol: string;
  parameters: Record<string, string>;
  attributes: Record<string, string | null>;
}

/** What is wrong with the cluster now. Changed only by conditions.ts. */
export interface WorldConditions {
  quorumLost: boolean;
  /** The nodes do not see each other, though they run. */
  isSplit: boolean;
  readonly nodesOff: Set<string>;
  /** GiB that something other than guests takes, by storage (`volumeKey`). */
  readonly filled: Map<string, number>;
  /** Until when (simulated ms) a config file cannot be seen, by VMID, and the volumes of a guest. */
  readonly hiddenConfigs: Map<number, number>;
  readonly hiddenVolumes: Map<number, number>;
  /** What is odd about the agent of a guest: `afterMs` its start it answers (null = never), with so many network cards besides ours. */
  readonly agents: Map<number, { readonly afterMs?: number | null | undefined; readonly extraNics: number }>;
  /** How the start hooks of a container end that do not end well, by VMID. */
  readonly firstBoots: Map<number, 'exits' | 'hangs' | { readonly fails: string }>;
  /** What happens by itself at its time (simulated ms). */
  readonly due: { readonly atMs: number; readonly act: Act }[];
}

/** Counts up whenever a saved world would lack something. */
export const WORLD_FORMAT = 6;

/** Everything that exists, plain data and Maps, so that `--state` can save it. */
export interface World {
  /** Of the saved form: a world of another one is not read. */
  readonly format: number;
  readonly cluster: string;
  /** Proxmox VE that the cluster runs: what differs between them follows from it. */
  readonly version: '8.4' | '9.1';
  /** How cluster locks are polled: once a second until pve-cluster 9.1.0, then ever faster towards the end of the wait. */
  readonly lockPolling: 'legacy' | 'current';
  /** From a guest's start until its agent answers, in simulated milliseconds. */
  readonly boot: { readonly medianMs: number; readonly p95Ms: number };
  /** What the first boot of a container takes once its network is up. */
  readonly firstBoot: { readonly medianMs: number; readonly p95Ms: number };
  readonly seed: string;
  /** Counts the lives of this world: a loaded one draws other random numbers than the first. */
  life: number;
  elapsedMs: number;
  readonly range: readonly [number, number];
  readonly nodes: readonly WorldNode[];
  readonly storages: readonly WorldStorage[];
  /** By id; `a/b` lies in `a`. */
  readonly pools: Map<string, WorldPool>;
  /** `next-id` of datacenter.cfg: lower bound, and the upper one that is not part of it. */
  readonly nextId: readonly [number, number];
  readonly ha: WorldHa;
  readonly conditions: WorldConditions;
  readonly users: Map<string, WorldUser>;
  readonly tokens: Map<string, WorldToken>;
  /** Privileges by role, the built-in ones included. */
  readonly roles: Map<string, readonly string[]>;
  acl: WorldAclEntry[];
  /** Signs tickets and CSRF tokens: another key makes all that were given out invalid at once. */
  authKey: string;
  /** The minimal role of the deployment. */
  readonly tokenId: string;
  readonly rootTokenId: string;
  readonly guests: Map<number, WorldGuest>;
  readonly volumes: Map<string, WorldVolume>;
  readonly files: Map<string, WorldFile>;
  readonly dhcp: WorldDhcp;
  readonly guacamole: WorldGuacamole;
  /** Files that lie on nodes and belong to no storage, by node and path (`volumeKey`). */
  readonly nodeFiles: Map<string, { readonly base64: string; readonly mode: NodeFileMode }>;
  /** What root may map into containers, by node: `/etc/subuid` and `/etc/subgid`. */
  readonly subIds: Map<string, { readonly uid: IdRange[]; readonly gid: IdRange[] }>;
  /** Where every node has a file system of others mounted. */
  readonly mounts: readonly string[];
  /** Symbolic links of every node: path and where it leads. */
  readonly links: Map<string, string>;
  /** SSH keys in OpenSSH's own form: of the nodes by name, and `hatchery`, whose public key root of every node lets in. */
  readonly sshKeys: Map<string, { readonly private: string; readonly public: string }>;
  /** Keys and certificates (PEM) by name: `ca`, node names, services. */
  readonly certificates: Map<string, { keyPem: string; certPem: string }>;
}

/** Local storages of two nodes may hold volumes of the same name. */
export function volumeKey(node: string | undefined, volid: string): string {
  return node === undefined ? volid : `${node}/${volid}`;
}

/** The pool of a guest, or `undefined`. */
export function poolOf(world: World, id: number): string | undefined {
  for (const [name, pool] of world.pools) if (pool.members.has(id)) return name;
  return undefined;
}

/** What DHCP answers to this MAC now: a lease only if the filters let it pass. */
export function leaseFor(world: World, mac: string): string | undefined {
  const { dhcp } = world;
  const key = mac.toLowerCase();
  if (dhcp.denyEnabled && dhcp.deny.has(key)) return undefined;
  if (dhcp.allowEnabled && !dhcp.allow.has(key)) return undefined;
  const known = dhcp.leases.get(key);
  if (known !== undefined) return known;
  const index = dhcp.leases.size + 10;
  const address = `10.20.${Math.floor(index / 250) % 256}.${(index % 250) + 1}`;
  dhcp.leases.set(key, address);
  return address;
}

/** The parts of the world that the journal's first line tells. */
export function worldFacts(world: World, timeScale: number): Record<string, unknown> {
  return {
    timeScale,
    seed: world.seed,
    cluster: world.cluster,
    range: world.range,
    nodes: world.nodes.map((node) => node.name),
    pools: [...world.pools.keys()],
    guests: [...world.guests.values()].map((guest) => ({
      vmid: guest.vmid,
      kind: guest.kind,
      node: guest.node,
      owner: guest.owner,
      incarnation: guest.incarnation,
      pool: poolOf(world, guest.vmid),
      template: guest.config['template'] === '1',
    })),
  };
}
