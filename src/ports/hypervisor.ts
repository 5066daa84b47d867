import type { ClusterRecording } from '../core/cluster-recording.js';
import type { SnippetVolumes } from '../core/cloud-init/snippets.js';
import type { ErrorCode, HatcheryError, Retry } from '../core/errors.js';
import type { Mark, MarkIdentity } from '../core/mark.js';
import type { Call } from './call.js';
import type { Secret } from './secrets.js';

/** `full` copies the disks, `linked` shares the template's blocks. */
export type CloneMode = 'linked' | 'full';

export interface NodeInfo {
  readonly name: string;
  readonly online: boolean;
  readonly cores: number;
  readonly memoryTotalMiB: number;
  readonly memoryUsedMiB: number;
  /** Virtual cores of the guests on it, whether they run or not; templates not counted. */
  readonly guestCores: number;
}

export interface StorageInfo {
  readonly id: string;
  /** `undefined` for a shared storage, which every node reaches. */
  readonly node: string | undefined;
  readonly shared: boolean;
  readonly totalGiB: number;
  readonly usedGiB: number;
}

export interface GuestInfo {
  readonly vmid: number;
  readonly kind: GuestKind;
  readonly node: string;
  /** The cluster's broadcast name: may be missing or stale right after a create. Never identity. */
  readonly name: string | undefined;
  readonly template: boolean;
  readonly pool: string | undefined;
  /** The config's `lock:` key, live. */
  readonly lock: string | undefined;
  readonly memoryMiB: number;
  readonly cores: number;
}

/** One shared read of a whole cluster (`GET /cluster/resources`): guests of both kinds, nodes and storages. */
export interface Inventory {
  readonly takenAtMs: number;
  /** All of the cluster, those that the site excludes too. */
  readonly nodes: readonly NodeInfo[];
  /** Nodes that the cluster's definition names and the cluster does not have. */
  readonly unknownNodes: readonly string[];
  readonly storages: readonly StorageInfo[];
  readonly guests: readonly GuestInfo[];
}

/** A template as found and pinned: a run keeps it and refuses to clone another one under the same id. */
export interface TemplateInfo {
  readonly name: string;
  readonly vmid: number;
  readonly node: string;
  /** sha256 over the parts of the config that a clone copies. */
  readonly digest: string;
  readonly storage: string;
  readonly storageShared: boolean;
  /** Main disk, e.g. `scsi0`. */
  readonly disk: string;
  readonly diskGiB: number;
  readonly problems: readonly string[];
}

/** Why something cannot be told; `cause` = the read that failed, where one did. */
interface Unknown {
  readonly why: string;
  readonly cause?: HatcheryError;
}

/** Three-valued on purpose: an error, an unreadable node or a 403 is `unknown`, never `free`. */
export type VmidLookup =
  | { readonly answer: 'free' }
  | { readonly answer: 'used'; readonly by: string }
  | ({ readonly answer: 'unknown' } & Unknown);

export type GuestKind = 'qemu' | 'lxc';

/** Whose guest is meant. */
export interface GuestRef extends MarkIdentity {
  /** A guest of another kind is not meant; left out = either. */
  readonly kind?: GuestKind;
  /** Where it was last seen: a hint that saves a search and that each read checks. */
  readonly node?: string;
}

/** The guest that a mark should be on. `foreign`: a config is there and proves not to be ours; `unknown`: cannot be told now (e.g. a clone's temporary config without a mark). */
export type OwnLookup =
  | { readonly answer: 'none' }
  | { readonly answer: 'ours'; readonly guest: OwnGuest }
  | { readonly answer: 'foreign'; readonly why: string }
  | ({ readonly answer: 'unknown' } & Unknown);

export interface OwnGuest {
  readonly vmid: number;
  readonly kind: GuestKind;
  readonly node: string;
  readonly mark: Mark;
  /** The config's `lock:` key, e.g. `clone`. */
  readonly lock: string | undefined;
  /** Of a read that was asked for it; `undefined` = in none, or not asked for. */
  readonly pool: string | undefined;
  /** Tells this guest from another one that is made anew under the same mark: SMBIOS UUID of a virtual machine, MAC of a container. */
  readonly incarnation: string | undefined;
  readonly name: string | undefined;
  readonly cores: number | undefined;
  readonly memoryMiB: number | undefined;
  readonly mac: string | undefined;
  readonly ciUser: string | undefined;
  readonly disks: Readonly<Record<string, { volume: string; sizeGiB: number | undefined }>>;
  readonly cloudInitDrives: number;
  readonly configDigest: string;
}

/** A remote task. `id` is the UPID, which names the node that runs it. */
export interface TaskRef {
  readonly id: string;
}

/** How long a clone waited for one lock of its storage, milliseconds; `timedOut`: it gave up. */
export interface LockWaited {
  readonly waitMs: number;
  readonly timedOut: boolean;
}

export type TaskVerdict =
  /** `lockWaited`: of some clones, whose log was looked into. */
  | { readonly verdict: 'ok'; readonly warnings: number; readonly lockWaited?: LockWaited }
  /** `code` and `retry` are the driver's reading of the text, e.g. `lock-timeout` and `later` for a busy lock. */
  | {
      readonly verdict: 'error';
      readonly text: string;
      readonly code?: ErrorCode;
      readonly retry?: Retry;
      /** A volume with the guest's VMID is there, or may be, that no config knows: no other guest may get this id. */
      readonly leavesVolume?: boolean;
      readonly lockWaited?: LockWaited;
    }
  /** Ended without a verdict (worker killed, node crashed, log rotated away): decide by state. */
  | { readonly verdict: 'unknown'; readonly text: string };

/** Answer to "what became of a request whose answer we lost". */
export type Trace<T> =
  | { readonly found: 'done'; readonly value: T }
  | { readonly found: 'running'; readonly value: T }
  | { readonly found: 'nothing' }
  | ({ readonly found: 'unknown' } & Unknown);

export interface CloneRequest {
  readonly kind: GuestKind;
  readonly template: { vmid: number; node: string; digest: string; storageShared: boolean };
  readonly vmid: number;
  readonly name: string;
  readonly node: string;
  readonly mode: CloneMode;
  /** Target of a full clone; ignored for linked clones, which stay on the template's storage. */
  readonly storage: string | undefined;
  readonly description: string;
}

/** A container archive on a node. */
export interface ArchiveInfo {
  /** Volume id, e.g. `local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst`. */
  readonly volume: string;
  readonly node: string;
}

/** What a container is given besides its name. */
export interface ContainerSettings {
  readonly cores: number;
  readonly memoryMiB: number;
  readonly swapMiB: number;
  readonly nesting: boolean;
  readonly bridge: string;
  readonly vlan: number | undefined;
  readonly mac: string;
}

export interface CreateRequest {
  readonly archive: string;
  readonly vmid: number;
  /** Host name. */
  readonly name: string;
  readonly node: string;
  readonly storage: string;
  readonly diskGiB: number;
  readonly description: string;
  readonly settings: ContainerSettings;
  /** Of root. */
  readonly password: Secret | undefined;
  readonly sshKeys: readonly string[];
}

export interface GuestSettings {
  readonly cores: number;
  readonly memoryMiB: number;
  readonly bridge: string;
  readonly vlan: number | undefined;
  readonly mac: string;
  readonly ciUser: string;
  readonly ciPassword: string | undefined;
  readonly sshKeys: readonly string[];
  /** With it the guest gets the cluster's vendor data, and the token where that looks for it. */
  readonly phoneHomeToken?: Secret | undefined;
}

export interface TaskProgress {
  readonly percent: number | undefined;
}

/**
 * One cluster of virtual machines.
 * Every write takes a `Call` and is harmless when it arrives late: fixed VMID, digest, absolute sizes.
 * Errors: `cluster-unreachable` (not sent, retry later), `outcome-unknown` (sent, no usable answer), `remote-refused`, `permission-missing`,
 * `lock-timeout` (busy lock, nothing done, retry later), `cluster-no-quorum`, `foreign-guest`, `template-changed`.
 * Writing methods that start a remote task give its reference at once; `followTask` gives the verdict.
 */
export interface Hypervisor {
  readonly cluster: string;
  /** Shared by all callers of this process; never older than `maxAgeMs` (default 2,000). Fails as a whole rather than with a part missing. */
  inventory(options?: { maxAgeMs?: number; signal?: AbortSignal }): Promise<Inventory>;
  /**
   * The templates of this kind and these names. Several virtual machines of one name are copies when each lies on a local storage of its own
   * node; several containers, when a clone of one is like a clone of the other.
   * Errors: `not-found` when nobody has any of the names, or when it cannot be told which one is meant.
   */
  templates(kind: GuestKind, names: readonly string[], call: Call): Promise<readonly TemplateInfo[]>;
  /** By the shared inventory; `isLive`: by a question about this id alone, for who cannot wait for the clone to tell. */
  lookupVmid(vmid: number, call: Call, options?: { isLive?: boolean }): Promise<VmidLookup>;
  /** One config read. `withPool`: and a read of the pool where a kept one does not show the guest in it. */
  readOwn(guest: GuestRef, call: Call, options?: { withPool?: boolean }): Promise<OwnLookup>;
  /** Whatever mark the guest carries, ours or not; `undefined` = none, or no guest. Errors as for any read. */
  readMark(vmid: number, call: Call): Promise<Mark | undefined>;

  /**
   * Copies of a container archive on the nodes that are up, one for each, all of one file: the newest whose name begins with `name` and a `_`,
   * or exactly `name`. Error: `not-found` when no node has one.
   */
  archives(name: string, call: Call): Promise<readonly ArchiveInfo[]>;

  /** Of a virtual machine or a container, as `request.kind` says. */
  startClone(request: CloneRequest, call: Call): Promise<TaskRef>;
  /** Finds the clone task by the template's node: task list since `sinceMs` (Unix ms), its logs ("with ID N"), then the config and its mark. */
  traceClone(request: CloneRequest, guest: GuestRef, sinceMs: number, call: Call): Promise<Trace<TaskRef>>;
  /** Unpacks an archive into a new, stopped, unprivileged container that has all of its settings. */
  startCreate(request: CreateRequest, call: Call): Promise<TaskRef>;
  /** As `traceClone`: tasks of the node that are named after the VMID, then the config and its mark. */
  traceCreate(request: CreateRequest, guest: GuestRef, sinceMs: number, call: Call): Promise<Trace<TaskRef>>;
  /** The end of a task's log, at most 20 lines, and how many there are. Error: `not-found` when the cluster has forgotten the task. */
  taskLog(task: TaskRef, call: Call): Promise<{ lines: readonly string[]; total: number }>;
  /** Follows by the task list of its node, shared by all callers of all processes; `onProgress` now and then. Ends only with a verdict, an error or the signal. */
  followTask(task: TaskRef, call: Call, onProgress?: (progress: TaskProgress) => void): Promise<TaskVerdict>;

  /**
   * Synchronous config write with digest; a no-op when everything is already so. Gives where the guest is and its incarnation.
   * The config may be the one that `readOwn` read a moment ago: the digest refuses the write when it has changed since.
   */
  configure(
    guest: GuestRef,
    settings: GuestSettings,
    call: Call,
  ): Promise<Pick<OwnGuest, 'node' | 'incarnation'>>;
  /** The same for a container. */
  configureContainer(
    guest: GuestRef,
    settings: ContainerSettings,
    call: Call,
  ): Promise<Pick<OwnGuest, 'node' | 'incarnation'>>;
  /**
   * Names the snippets that a virtual machine gets cloud-init data from, by part; other parts stay as they are. Writes as `configure` does.
   * A start on a node that lacks one of them fails, retry later.
   */
  useSnippets(guest: GuestRef, volumes: SnippetVolumes, call: Call): Promise<Pick<OwnGuest, 'node'>>;
  /** Grows to an absolute size; `undefined` when the disk already has it. Never shrinks: `remote-refused`. */
  startResize(guest: GuestRef, disk: string, sizeGiB: number, call: Call): Promise<TaskRef | undefined>;
  /**
   * `isRepeat`: an earlier start may have arrived, so its status is read first; `undefined` = it runs already.
   * Without it a guest that runs gives a task that ends well.
   */
  startGuest(guest: GuestRef, call: Call, options?: { isRepeat?: boolean }): Promise<TaskRef | undefined>;
  /** The address of the interface with this MAC, asked from the guest agent, or from the node of a container; `undefined` = not known yet. Link-local and IPv6 link-local are not addresses. */
  guestAddress(guest: GuestRef, mac: string, call: Call): Promise<string | undefined>;
  /**
   * Safe delete: read, match mark and incarnation, write the deleting mark with digest, stop, wait, DELETE purge, follow, verify gone.
   * A guest that is not there is success. Mismatch: `foreign-guest`. `incarnations` = any of them; none = never read, only the mark decides.
   */
  destroyOwn(
    guest: GuestRef,
    options: { incarnations: readonly string[]; deletingRun: string },
    call: Call,
  ): Promise<{ existed: boolean }>;
  /**
   * Whether this deployment may work here at all: not with rights that write to guests outside its pool, unless the site accepts that
   * (`mayWriteOutsidePool`). Reads the rights anew each time. Errors as for any read: a cluster that cannot be read is neither.
   */
  standing(call: Call): Promise<Standing>;
  /** One small read that tells whether the cluster can be written to at all. Errors: `cluster-unreachable`, `cluster-no-quorum`. */
  probe(call: Call): Promise<void>;
  /** Looks whether this use is possible: nodes, rights, pool, range, templates, storages, leftovers. Whatever cannot be looked at is a finding too. */
  check(use: IntendedUse, call: Call): Promise<readonly CheckFinding[]>;
  /** Shapes, times and refusals of harmless reads, with nothing in it that belongs to the site. */
  record(call: Call): Promise<ClusterRecording>;
}

export interface IntendedBlueprint {
  readonly name: string;
  readonly kind: GuestKind;
  readonly source:
    | {
        readonly templates: readonly string[];
        readonly clone: CloneMode;
        /** Target of full clones; left out = the template's. */
        readonly storage?: string | undefined;
      }
    | { readonly archive: string; readonly storage: string };
  /** Of the size that machines get. */
  readonly diskGiB: number;
  readonly bridge: string;
  readonly vlan: number | undefined;
  /** Its machines get cloud-init files of their own. */
  readonly hasSnippets: boolean;
  readonly workflow: string;
}

/** Cloud-init files that have to be on each of `nodes`, or on a storage that all of them share. */
export interface PlacedSnippets {
  readonly storage: string;
  readonly shared: boolean;
  readonly nodes: readonly string[];
  readonly names: readonly string[];
}

/** What a site means to do on a cluster. */
export interface IntendedUse {
  readonly blueprints: readonly IntendedBlueprint[];
  /** Those of the blueprints: `uses` = id of the step. */
  readonly workflows: readonly {
    readonly id: string;
    readonly steps: readonly { readonly key: string; readonly uses: string }[];
  }[];
  /** VMIDs that our machines hold, whether their guests are there yet or not. */
  readonly vmids: ReadonlySet<number>;
  readonly restingVmids: ReadonlySet<number>;
  /** What machines that exist are started with. */
  readonly snippets: readonly PlacedSnippets[];
  /** Guests of this cluster are told to phone home, with the vendor data that its definition names. */
  readonly phonesHome: boolean;
}

export type Standing =
  | { readonly ok: true }
  | { readonly ok: false; readonly code: ErrorCode; readonly sentence: string; readonly hint: string };

export interface CheckFinding {
  readonly ok: boolean;
  /** Works, and somebody should look all the same. Never with `ok: false`. */
  readonly warning?: boolean;
  readonly subject: string;
  readonly detail: string;
  readonly remedy?: string;
}

/** The configured clusters by name. Unknown name: `not-found`. */
export interface Hypervisors {
  get(cluster: string): Hypervisor;
  all(): readonly Hypervisor[];
}
