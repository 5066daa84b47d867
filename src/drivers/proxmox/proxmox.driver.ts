import type { SnippetVolumes } from '../../core/cloud-init/snippets.js';
import type { ClusterDefinition } from '../../core/definitions.js';
import type { ClusterRecording } from '../../core/cluster-recording.js';
import type { Mark } from '../../core/mark.js';
import type { Call } from '../../ports/call.js';
import type { Clock } from '../../ports/clock.js';
import type {
  ArchiveInfo,
  CheckFinding,
  CloneRequest,
  ContainerSettings,
  CreateRequest,
  GuestKind,
  GuestRef,
  GuestSettings,
  Hypervisor,
  IntendedUse,
  Inventory,
  OwnGuest,
  OwnLookup,
  Standing,
  TaskProgress,
  TaskRef,
  TaskVerdict,
  TemplateInfo,
  Trace,
  VmidLookup,
} from '../../ports/hypervisor.js';
import type { Secret } from '../../ports/secrets.js';
import { noNews, type SharedNews } from '../../ports/shared-news.js';
import { checkCluster } from './check/check.js';
import { Archives } from './archives.js';
import { Clones } from './clone.js';
import type { Cluster, DriverLog } from './cluster.js';
import { Creates } from './create.js';
import { SafeDelete, type DestroyOptions } from './destroy.js';
import { GuestReads } from './guests.js';
import { ProxmoxHttp, timeoutsFor, type CallMetrics, type TimeoutsMs } from './http.js';
import { ClusterReads } from './inventory.js';
import { Makings } from './makings.js';
import { Operations } from './operations.js';
import { recordCluster } from './record/record.js';
import { standingOf } from './standing.js';
import { Tasks } from './tasks.js';
import { Templates } from './templates.js';

export interface ProxmoxDriverOptions {
  readonly definition: ClusterDefinition;
  /** Secret of the definition's token, or password of its account. */
  readonly secret: Secret;
  /** Uuid of this deployment, as in our marks. */
  readonly deployment: string;
  readonly clock: Clock;
  /** Scales polls, settle times and time-outs; 1 outside the demo and the tests. */
  readonly remoteTimeScale: number;
  readonly metrics?: CallMetrics;
  readonly log: DriverLog;
  /** Of the other processes of this deployment; left out = there are none. */
  readonly news?: SharedNews;
  /** Instead of those that follow from the time scale. */
  readonly timeoutsMs?: TimeoutsMs;
}

const INVENTORY_AGE_MS = 2_000;

/**
 * One Proxmox VE cluster (8.1 or later) over its REST API, with an API token or the ticket of an account.
 * Errors and their `retry`: errors.ts; promises of each method: the port.
 * `startClone` into a VMID where our own earlier clone is found gives that clone's task instead of an error.
 * Source: API viewer of PVE 9.1; behaviour pinned by test/contract/hypervisor.contract.ts.
 */
export class ProxmoxDriver implements Hypervisor {
  readonly cluster: string;
  readonly #context: Cluster;
  readonly #reads: ClusterReads;
  readonly #guests: GuestReads;
  readonly #tasks: Tasks;
  readonly #templates: Templates;
  readonly #archives: Archives;
  readonly #clones: Clones;
  readonly #creates: Creates;
  readonly #operations: Operations;
  readonly #deletes: SafeDelete;

  constructor(options: ProxmoxDriverOptions) {
    const { definition, secret, deployment, clock, remoteTimeScale, metrics, log, news = noNews } = options;
    const timeoutsMs = options.timeoutsMs ?? timeoutsFor(remoteTimeScale);
    const http = new ProxmoxHttp({ definition, secret, timeoutsMs, remoteTimeScale, clock, metrics });
    const cluster: Cluster = { definition, deployment, http, clock, remoteTimeScale, log, news };
    this.cluster = definition.name;
    this.#context = cluster;
    this.#reads = new ClusterReads(cluster);
    this.#guests = new GuestReads(cluster, this.#reads);
    this.#tasks = new Tasks(cluster);
    this.#templates = new Templates(cluster, this.#reads, this.#tasks);
    this.#archives = new Archives(cluster, this.#reads);
    const makings = new Makings(cluster, this.#reads, this.#guests);
    const parts = { cluster, guests: this.#guests, tasks: this.#tasks, makings };
    this.#clones = new Clones({ ...parts, templates: this.#templates });
    this.#creates = new Creates(parts);
    this.#operations = new Operations(cluster, this.#guests);
    this.#deletes = new SafeDelete(cluster, this.#guests, this.#tasks);
  }

  inventory(options: { maxAgeMs?: number; signal?: AbortSignal } = {}): Promise<Inventory> {
    return this.#reads.map(
      options.maxAgeMs ?? INVENTORY_AGE_MS,
      options.signal ?? new AbortController().signal,
    );
  }

  templates(kind: GuestKind, names: readonly string[], call: Call): Promise<readonly TemplateInfo[]> {
    return this.#templates.byNames(kind, names, call.signal);
  }

  archives(name: string, call: Call): Promise<readonly ArchiveInfo[]> {
    return this.#archives.named(name, call.signal);
  }

  lookupVmid(vmid: number, call: Call, options: { isLive?: boolean } = {}): Promise<VmidLookup> {
    return this.#guests.lookupVmid(vmid, call, options);
  }

  readMark(vmid: number, call: Call): Promise<Mark | undefined> {
    return this.#guests.readMark(vmid, call.signal);
  }

  readOwn(guest: GuestRef, call: Call, options: { withPool?: boolean } = {}): Promise<OwnLookup> {
    return this.#guests.readOwn(guest, call, options);
  }

  startClone(request: CloneRequest, call: Call): Promise<TaskRef> {
    return this.#clones.start(request, call);
  }

  traceClone(request: CloneRequest, guest: GuestRef, sinceMs: number, call: Call): Promise<Trace<TaskRef>> {
    return this.#clones.trace(request, guest, sinceMs, call);
  }

  startCreate(request: CreateRequest, call: Call): Promise<TaskRef> {
    return this.#creates.start(request, call);
  }

  traceCreate(request: CreateRequest, guest: GuestRef, sinceMs: number, call: Call): Promise<Trace<TaskRef>> {
    return this.#creates.trace(request, guest, sinceMs, call);
  }

  followTask(task: TaskRef, call: Call, onProgress?: (progress: TaskProgress) => void): Promise<TaskVerdict> {
    return this.#tasks.follow(task, call, onProgress);
  }

  taskLog(task: TaskRef, call: Call): Promise<{ lines: readonly string[]; total: number }> {
    return this.#tasks.logEnd(task, call.signal);
  }

  configure(
    guest: GuestRef,
    settings: GuestSettings,
    call: Call,
  ): Promise<Pick<OwnGuest, 'node' | 'incarnation'>> {
    return this.#operations.configure(guest, settings, call);
  }

  configureContainer(
    guest: GuestRef,
    settings: ContainerSettings,
    call: Call,
  ): Promise<Pick<OwnGuest, 'node' | 'incarnation'>> {
    return this.#operations.configureContainer(guest, settings, call);
  }

  useSnippets(guest: GuestRef, volumes: SnippetVolumes, call: Call): Promise<Pick<OwnGuest, 'node'>> {
    return this.#operations.useSnippets(guest, volumes, call);
  }

  startResize(guest: GuestRef, disk: string, sizeGiB: number, call: Call): Promise<TaskRef | undefined> {
    return this.#operations.startResize(guest, disk, sizeGiB, call);
  }

  startGuest(
    guest: GuestRef,
    call: Call,
    options: { isRepeat?: boolean } = {},
  ): Promise<TaskRef | undefined> {
    return this.#operations.startGuest(guest, call, options);
  }

  guestAddress(guest: GuestRef, mac: string, call: Call): Promise<string | undefined> {
    return this.#operations.guestAddress(guest, mac, call);
  }

  destroyOwn(guest: GuestRef, options: DestroyOptions, call: Call): Promise<{ existed: boolean }> {
    return this.#deletes.destroy(guest, options, call);
  }

  standing(call: Call): Promise<Standing> {
    return standingOf(this.#context, this.#reads, call.signal);
  }

  probe(call: Call): Promise<void> {
    return this.#reads.probe(call.signal);
  }

  check(use: IntendedUse, call: Call): Promise<readonly CheckFinding[]> {
    const parts = {
      cluster: this.#context,
      reads: this.#reads,
      templates: this.#templates,
      archives: this.#archives,
    };
    return checkCluster(parts, use, call.signal);
  }

  record(call: Call): Promise<ClusterRecording> {
    return recordCluster(this.#context, this.#reads, call.signal);
  }

  /** Drops every connection. */
  close(): void {
    this.#context.http.close();
  }
}
