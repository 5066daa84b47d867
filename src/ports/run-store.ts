import type { ErrorCode, ErrorRecord } from '../core/errors.js';
import type { MachineState, RunState, StepState, Wanted } from '../core/states.js';
import type { Mark } from '../core/mark.js';
import type { CompiledPlan } from '../plan/compiled-plan.js';
import type { AddressHolder, EffectIntent } from '../plan/step.js';

/** Rows of one run as loaded under its row lock. Times are Unix milliseconds of the database clock. */
export interface RunRow {
  readonly id: string;
  readonly machineId: string;
  readonly batchId: string;
  readonly workflowVersion: string;
  readonly inputs: Readonly<Record<string, unknown>>;
  state: RunState;
  wanted: Wanted;
  error: ErrorRecord | undefined;
  undoEndsAs: 'failed' | 'cancelled' | undefined;
  /** Of its workers, in a row: by themselves, among those of others, and with nothing but this run in hand. */
  deaths: number;
  deathsAmong: number;
  deathsAlone: number;
  /** Grows with every change that is written. */
  version: number;
}

export interface StepRow {
  readonly id: string;
  readonly key: string;
  readonly uses: string;
  readonly version: number;
  readonly rank: number;
  state: StepState;
  /** When the next attempt may begin; `undefined` = not due. */
  dueAtMs: number | undefined;
  /** Slots that the next attempt still has to be admitted to; `undefined` = none, or admitted. */
  slots: readonly string[] | undefined;
  /** Steps with the same key are claimed together; `undefined` = by itself. */
  groupKey: string | undefined;
  /** Waits for its group: it is claimed with the group, or leads it. */
  isGathering: boolean;
  dispatch: number;
  epoch: number;
  workerId: string | undefined;
  /** Since when the worker holds it. */
  claimedAtMs: number | undefined;
  tries: number;
  firstClaimedAtMs: number | undefined;
  /** Given while the step is ready, running or parked. */
  input: unknown;
  output: unknown;
  remote: Readonly<Record<string, RemoteNote>>;
  error: ErrorRecord | undefined;
  percent: number | undefined;
}

/** What `run.once` keeps of a key: `value` when the remote id is known, `sinceMs` (Unix ms) from the moment before the first send. */
export interface RemoteNote {
  readonly sinceMs: number;
  readonly value?: unknown;
}

export interface MachineRow {
  readonly id: string;
  readonly cluster: string;
  readonly mac: string;
  vmid: number;
  node: string;
  state: MachineState;
  incarnation: string | undefined;
  address: string | undefined;
  link: string | undefined;
  secretRef: string | undefined;
  error: ErrorRecord | undefined;
  /** `undefined` = its guest was not told to phone home. */
  phoneHome: PhoneHomeRow | undefined;
}

export interface PhoneHomeRow {
  /** Of the token, as hex. */
  readonly hash: string;
  /** What the guest told with it; `undefined` = it did not use it yet. */
  readonly address: string | undefined;
}

export interface EffectRow {
  readonly id: string;
  /** Order of the intents: undo goes from the highest down. */
  readonly seq: number;
  readonly stepId: string;
  readonly kind: string;
  readonly version: number;
  readonly system: string;
  readonly key: string;
  readonly shared: boolean;
  readonly payload: unknown;
  readonly state: 'intended' | 'confirmed' | 'undoing';
  readonly intendedAtMs: number;
}

/** The last of a step's attempts to act that ended in this way. */
export interface AttemptEnd {
  readonly stepId: string;
  readonly outcome: AttemptOutcome;
  readonly code: ErrorCode | undefined;
  readonly endedAtMs: number;
}

export type AttemptOutcome =
  'done' | 'waiting' | 'retry' | 'failed' | 'parked' | 'lost' | 'refused' | 'handed-over';

export interface RunEvent {
  readonly type: 'machine.state' | 'step.state' | 'step.progress';
  readonly step?: string;
  readonly state?: string;
  readonly percent?: number;
  readonly code?: string;
}

export interface AuditLine {
  readonly actor: string;
  readonly action: string;
  readonly subject: string;
  readonly detail: object;
}

/** What one transaction changes; collected by the run model, written by the store. */
export interface RunChanges {
  run: boolean;
  machine: boolean;
  /** Steps whose row changed. */
  readonly steps: Set<string>;
  readonly events: RunEvent[];
  /** Due without waiting for a slot: goes to the outbox at once. */
  readonly dispatches: { stepId: string; number: number; dueAtMs: number }[];
  /** Attempts that are over; of one that is not the step itself knows worker, epoch and begin. */
  readonly ended: {
    stepId: string;
    epoch: number;
    kind: 'act' | 'undo';
    workerId: string;
    startedAtMs: number;
    outcome: AttemptOutcome;
    error: ErrorRecord | undefined;
    warnings?: readonly string[];
  }[];
  /** Steps whose effects are now known to be there. */
  readonly confirmed: string[];
  /** Steps that let their slots go. */
  readonly freed: string[];
  /** The machine is gone: release its reservations (the VMID rests), forget its secrets. */
  released: boolean;
  /** Effects of which a person said that they are there, or that we let go of them. */
  readonly judged: { effectId: string; as: 'there' | 'let-go'; by: string; why: string }[];
  /** What people did to the run, for the audit list. */
  readonly audits: AuditLine[];
}

export interface LoadedRun {
  readonly plan: CompiledPlan;
  readonly run: RunRow;
  readonly machine: MachineRow;
  readonly steps: readonly StepRow[];
  /** Live effects that this machine holds. */
  readonly effects: readonly EffectRow[];
  /** Given while an effect is only intended: whether something may still arrive depends on them. */
  readonly attemptEnds: readonly AttemptEnd[];
  /** Nothing is dispatched to the machine's cluster for now (`ClusterStops`). */
  readonly isClusterStopped: boolean;
  /** What is parked somewhere, in any run: before the first try of such a step one asks `refusedBefore`. */
  readonly parkedUses: ReadonlySet<string>;
  readonly nowMs: number;
  /** Monotonic milliseconds of this process when `nowMs` had come in. */
  readonly readAtMs: number;
}

export interface HeldStep {
  readonly stepId: string;
  readonly epoch: number;
  readonly workerId: string;
}

/** What a worker hears with its heartbeat. */
export interface Pulse {
  readonly held: readonly HeldStep[];
  /** A person asked it to take no new step. */
  readonly isDraining: boolean;
}

/** A step that is due, with the number of its dispatch; `dueAt` as the store writes times. */
export interface OverdueStep {
  readonly stepId: string;
  readonly number: number;
  readonly dueAt: string;
}

/** The durable truth about runs. Every method is one transaction; a stale holder gets `false` or `undefined` and nothing is written. */
export interface RunStore {
  /** Loads the run of a step under its row lock, lets `work` change the model, writes the changes. `undefined`: no such step. */
  change<T>(
    by: { stepId: string } | { runId: string },
    work: (loaded: LoadedRun) => { changes: RunChanges; result: T },
  ): Promise<T | undefined>;

  /** The run of a step as it is now, for a change in hand. */
  look(stepId: string): Promise<LoadedRun | undefined>;
  /**
   * As `change`, for who still has the run in hand as it was when it was last read or written, and wants it to go forward: nothing is read.
   * `undefined`, and nothing is written: it changed meanwhile, is wanted gone, its cluster is stopped, or a step like one of its own was parked.
   */
  changeInHand<T>(
    inHand: LoadedRun,
    work: (loaded: LoadedRun) => { changes: RunChanges; result: T },
  ): Promise<{ result: T } | undefined>;

  /** Records the intents of a step before it acts. `busy` names a shared effect that its last holder is undoing right now. */
  intend(
    held: HeldStep,
    intents: readonly EffectIntent[],
  ): Promise<{ stale: boolean; busy?: string; hadEarlier: boolean }>;
  /** Keeps (or with `undefined` forgets) a note of `run.once`. */
  note(held: HeldStep, key: string, note: RemoteNote | undefined): Promise<boolean>;
  progress(held: HeldStep, percent: number): Promise<boolean>;
  /**
   * Why a step that was never tried need not be sent: for good, the cluster refused the same step of another machine, which waits for a
   * person now. A missing permission counts for its batch, a full storage for all that goes to it.
   */
  refusedBefore(held: HeldStep): Promise<ErrorRecord | undefined>;
  /** `holder` = another live machine of the cluster has this address; without one it is the machine's from now on. */
  claimAddress(held: HeldStep, address: string): Promise<{ stale: boolean; holder?: AddressHolder }>;
  /** Keeps a note at the reservation of the machine's VMID. */
  noteVmid(held: HeldStep, note: string): Promise<boolean>;
  replaceVmid(held: HeldStep, used: ReadonlySet<number>, why: string): Promise<number | undefined>;

  /** Lets go of a shared effect; `undo: true` = we were the last holder, it is marked `undoing` and ours to remove. */
  letGo(held: HeldStep, effectId: string): Promise<{ stale: boolean; undo: boolean }>;
  effectUndone(held: HeldStep, effectId: string): Promise<boolean>;

  /** `versions`: what it knows to do (`clone-template@1`) and to undo (`undo:guest@1`). */
  registerWorker(worker: {
    id: string;
    host: string;
    pid: number;
    versions: readonly string[];
    leaseMs: number;
  }): Promise<void>;
  /** `undefined`: the worker was declared dead and has to begin again under a new id. */
  heartbeat(workerId: string, leaseMs: number): Promise<Pulse | undefined>;
  stopWorker(workerId: string): Promise<void>;
  /** Declares workers dead whose lease is over and gives the steps that they held. `isOneOfMany`: others died since the step was claimed. */
  buryDead(limit: number): Promise<readonly { stepId: string; workerId: string; isOneOfMany: boolean }[]>;

  /** Hands due outbox rows to `publish`; they are removed with the next call. Rows of a failed publish come again after 10 s. Gives how many. */
  relay(
    publish: (items: readonly { stepId: string; number: number }[]) => Promise<void>,
    batch: number,
  ): Promise<number>;
  /** Closes batches that are at rest and still open: their last machines came to rest in one moment, or whoever was to close them is gone. */
  settleLeft(): Promise<void>;
  /** The next run that was marked `wanted = gone` in bulk and has not looked at it yet; `advanced` ends its row, else it comes again. */
  takeAdvance(): Promise<{ outboxId: number; runId: string } | undefined>;
  /** The next summary to post; it comes again with growing gaps until `advanced` ends its row. */
  takeNotice(): Promise<{ outboxId: number; batchId: string; tries: number } | undefined>;
  advanced(outboxId: number): Promise<void>;
  /** Dispatched longer than `afterMs` ago, due, and held by nobody; those of stopped clusters wait. Longest due first, those behind `behind`. */
  overdue(afterMs: number, batch: number, behind?: OverdueStep): Promise<readonly OverdueStep[]>;
  /** Whether a step that was handed to the queue is due for so long and nobody has taken it. */
  isWorkWaiting(forMs: number): Promise<boolean>;
  /** Hands these steps over again under a new number, unless somebody did. Gives how many. */
  redispatch(items: readonly { stepId: string; number: number }[]): Promise<number>;
  /** VMIDs that a machine which is not over holds, or that a run still undoes. */
  countedVmids(cluster: string): Promise<ReadonlySet<number>>;
  /**
   * Records a guest that was found as an effect of its machine's run, if that run is over and never saw what it made; gives the run.
   * A guest that was there once and is there again was brought back by somebody (a restored backup): it is not a stray.
   */
  recordStray(machineId: string, effect: EffectIntent): Promise<string | undefined>;
  /**
   * Notes a guest with our mark of a machine that there is no row of: Postgres lost its last commits, or an older copy of it was restored. Its VMID
   * is given to nobody for as long as it is seen, and rests afterwards. Gives whether it is news; `undefined` = there is such a machine.
   */
  noteFound(cluster: string, mark: Mark): Promise<boolean | undefined>;
  /** The worker to which the queue gave this step does not know it: it is in the queue no more, but with those that `takePassedOn` gives out. */
  passOn(stepId: string): Promise<void>;
  /** One step that was passed on, is due, and that this worker knows how to do or to undo; nobody else is given it. */
  takePassedOn(workerId: string): Promise<string | undefined>;
  /** Steps due for half a minute that no live worker knows how to do or to undo. */
  unknownSteps(limit: number): Promise<readonly string[]>;
}
