import type { z } from 'zod';
import { HatcheryError } from '../core/errors.js';
import type { Intruder } from '../core/foreign-deployment.js';
import type { Mark } from '../core/mark.js';
import type { Call } from '../ports/call.js';
import type { DesktopGateway } from '../ports/desktop-gateway.js';
import type { Dhcp } from '../ports/dhcp.js';
import type { DomainJoinAccount } from '../ports/domain-join.js';
import type { Durations } from '../ports/durations.js';
import type { HookScripts } from '../ports/hook-scripts.js';
import type { GuestKind, GuestRef, Hypervisor, LockWaited, Trace } from '../ports/hypervisor.js';
import type { NodeFiles } from '../ports/node-files.js';
import type { PhoneHomes } from '../ports/phone-homes.js';
import type { Secrets } from '../ports/secrets.js';

/** What a step may reach, by name of the configured cluster or service. Unknown names: `not-found`. */
export interface StepPorts {
  hypervisor(cluster: string): Hypervisor;
  nodeFiles(cluster: string): NodeFiles;
  dhcp(service: string): Dhcp;
  desktopGateway(service: string): DesktopGateway;
  domainJoin(service: string): DomainJoinAccount;
  readonly hookScripts: HookScripts;
  readonly secrets: Secrets;
  /** What past runs say about how long something takes. */
  readonly durations: Pick<Durations, 'of'>;
  readonly phoneHomes: Pick<PhoneHomes, 'issue'>;
  /** Scales waits that face a remote side (poll, settle, window); 1 outside the demo and the tests. */
  readonly remoteTimeScale: number;
}

/** Durations as people write them in code and YAML: `500ms`, `2s`, `20m`, `1h`, `7d`. */
export type Duration = `${number}${'ms' | 's' | 'm' | 'h' | 'd'}`;

export interface RetryPolicy {
  readonly attempts: number;
  readonly first: Duration;
  readonly max: Duration;
}

/**
 * One thing that a step is about to make outside, recorded before it is made.
 * `key` is unique for (system, kind) among live effects; `shared` effects are held by several machines and undone with the last holder.
 */
export interface EffectIntent {
  readonly kind: string;
  readonly version: number;
  readonly system: string;
  readonly key: string;
  readonly payload: Readonly<Record<string, unknown>>;
  readonly shared?: boolean;
}

export interface OnceHooks<T> {
  /** Sends the request and gives the remote id. Called only when `resolve` found nothing (or nothing was ever sent). */
  readonly send: (call: Call) => Promise<T>;
  /** After a crash or a lost answer: what became of the earlier send? `sinceMs` = Unix ms of the intent. */
  readonly resolve: (sinceMs: number, call: Call) => Promise<Trace<T>>;
}

/** What Postgres knows of the machine when an attempt begins. The VMID is here and not in the inputs: a burnt id is replaced while the run goes on. */
export interface MachineSnapshot {
  readonly machineId: string;
  readonly vmid: number;
  readonly mac: string;
  readonly node: string;
  /** What was read of its guest, `OwnGuest.incarnation`. */
  readonly incarnation: string | undefined;
  readonly identity: GuestRef & Required<Pick<GuestRef, 'kind'>>;
  /** The guest was told to phone home; `address` = what it told when it did. */
  readonly phoneHome: { readonly address: string | undefined } | undefined;
}

/** One attempt of a step, seen from the inside. */
export interface StepRun {
  readonly runId: string;
  readonly machine: MachineSnapshot;
  readonly stepKey: string;
  readonly attempt: number;
  readonly call: Call;
  /** An earlier attempt of this step saved its intent: something may be there already. */
  readonly hasEarlierIntent: boolean;
  mark(): Mark;
  /** Stores a remote id the moment it is known; after a crash finds it again instead of sending twice. */
  once<T>(key: string, hooks: OnceHooks<T>): Promise<T>;
  /** Drops the stored id of `key`, after a verdict that proves that nothing was made: the next `once` may send. */
  forget(key: string): Promise<void>;
  /**
   * Burns the machine's VMID (proven foreign) and reserves the next free one outside `used`. The effects recorded for the old id are
   * closed: nothing of ours can be there. Give `StepWait(0)` after it: the next attempt sees the new id.
   */
  replaceVmid(used: ReadonlySet<number>, why: string): Promise<number>;
  /** Stops dispatch to the machine's cluster: this guest of another deployment was found in our VMID range. */
  reportIntruder(intruder: Intruder): Promise<void>;
  /**
   * Another machine of the cluster that is known under this address. Without one the address is the machine's from this moment on: of two
   * that ask at once only one gets it.
   */
  claimAddress(address: string): Promise<AddressHolder | undefined>;
  /** Says how long the remote side kept this step waiting for a lock that one of its slots stands for: the slot's limit follows it. */
  waited(slot: string, wait: LockWaited): Promise<void>;
  /** 0..100; written at most a few times a second. The attempt's timeout counts from the last time that it grew. */
  progress(percent: number): void;
  /** Facts about the machine that were read back (incarnation, node, address, link); saved with the step. */
  learn(facts: MachineFacts): void;
}

export interface AddressHolder {
  readonly machineId: string;
  readonly name: string;
  readonly vmid: number;
  readonly mac: string;
}

export interface MachineFacts {
  readonly incarnation?: string;
  readonly node?: string;
  readonly address?: string;
  readonly link?: string;
  readonly secretRef?: string;
}

/** `act` gives this to hand its worker back and be called again later; it is not a failed attempt. */
export class StepWait {
  constructor(
    readonly afterMs: number,
    readonly why: string,
  ) {}
}

/** One of many that are done together: its input, and its own attempt. */
export interface GroupMember<I, R = StepRun> {
  readonly input: I;
  readonly run: R;
}

/**
 * What a server can do for many at once is asked once: attempts that are due and have the same key are made together, whichever run they are of.
 * Each has its own intent and epoch, and its own outcome: what is a `HatcheryError` in the answer fails that one only, what is thrown is the
 * outcome of all. Answers stand in the order of `members`. `call` speaks for all of them: one `beforeSend` per request.
 */
export interface Coalesce<I, O> {
  /** Names the server, e.g. `dhcp:<service>`. */
  readonly key: (input: I) => string;
  /** How long the first waits while others are on their way, milliseconds; scaled like every wait that faces a remote side. */
  readonly windowMs: number;
  /** As many as go together at most. */
  readonly max: number;
  /** For those with an earlier intent, asked first: what is there and ours needs no act. */
  findMany?(
    members: readonly GroupMember<I>[],
    ports: StepPorts,
    call: Call,
  ): Promise<readonly (O | undefined)[]>;
  actMany(
    members: readonly GroupMember<I>[],
    ports: StepPorts,
    call: Call,
  ): Promise<readonly (O | StepWait | HatcheryError)[]>;
}

/** The same for the undo of effects that are not shared. */
export interface CoalesceUndo<P> {
  readonly key: (payload: P) => string;
  readonly windowMs: number;
  readonly max: number;
  undoMany(
    members: readonly GroupMember<P, UndoRun>[],
    ports: StepPorts,
    call: Call,
  ): Promise<readonly (HatcheryError | undefined)[]>;
}

export interface StepDefinition<I = unknown, O = unknown> {
  /** Stored; never renamed, never given a new meaning. */
  readonly id: string;
  readonly version: number;
  readonly summary: string;
  readonly input: z.ZodType<I>;
  readonly output: z.ZodType<O>;
  /** Machines that it can make or work on; left out = all. A blueprint whose workflow has a step for others is refused at boot. */
  readonly only?: { readonly kind?: GuestKind; readonly source?: 'templates' | 'archive' };
  /** Slots held until the step's remote task has a verdict, e.g. `clone@storage:main/ceph`. The limit of a slot is the configuration's. */
  readonly slots?: (input: I) => readonly string[];
  /** Objects that the step changes; attempts run under a lock of each. */
  readonly locks: (input: I, machine: MachineSnapshot) => readonly string[];
  /** The effects that this step is about to make; recorded before `act`. Pure. */
  readonly effects: (input: I, machine: MachineSnapshot) => readonly EffectIntent[];
  /** It waits for the guest too: due at once when that phones home. */
  readonly wakesOnPhoneHome?: boolean;
  /** Of one attempt that does not go forward (`StepRun.progress`), waiting for locks not included. */
  readonly timeout: Duration;
  /** Of the whole step from its first claim, waits included; expiry parks with what `expired` says. */
  readonly deadline?: Duration;
  readonly expired?: (input: I) => HatcheryError;
  readonly retry: RetryPolicy;
  /** Called first when an earlier intent exists; a finished result that is there and ours ends the step. */
  find?(input: I, ports: StepPorts, run: StepRun): Promise<O | undefined>;
  act(input: I, ports: StepPorts, run: StepRun): Promise<O | StepWait>;
  /** A step that has it takes `find` and `act` from `aloneAsGroup`. */
  readonly coalesce?: Coalesce<I, O>;
  /** Why nobody may skip this step; left out = a person who did its work by hand, or does without it, may. */
  readonly unskippable?: string;
  /** Says what late arrival of each external write does; shown in docs and read by reviewers. */
  readonly lateWrites: string;
}

/** How one kind of effect is undone. Found by kind and payload version, never by step; kinds are never removed. */
export interface EffectDefinition<P = unknown> {
  readonly kind: string;
  readonly version: number;
  readonly payload: z.ZodType<P>;
  /** Slots that the undo is admitted to, as for a step. */
  readonly slots?: (payload: P) => readonly string[];
  readonly locks: (payload: P) => readonly string[];
  readonly timeout: Duration;
  readonly retry: RetryPolicy;
  /** Removes what is provably ours; nothing there is success. Throws with `retry` as a step does. */
  undo(payload: P, ports: StepPorts, run: UndoRun): Promise<void>;
  /** Reads whether what the effect names is there, and whether it is provably ours. Errors as for any read. */
  look(payload: P, ports: StepPorts, at: LookRun): Promise<EffectLook>;
  /** An effect that has it takes `undo` from `undoneAsGroup`. */
  readonly coalesce?: CoalesceUndo<P>;
}

/** Who looks at an effect: the machine of its run. */
export interface LookRun {
  readonly machine: MachineSnapshot;
  readonly call: Call;
}

/** What a look at an effect found. `facts`: what was read back of the machine. */
export type EffectLook =
  | { readonly found: 'ours'; readonly proof: string; readonly facts?: MachineFacts }
  | { readonly found: 'nothing' }
  | { readonly found: 'foreign'; readonly why: string }
  | { readonly found: 'unknown'; readonly why: string };

export interface UndoRun {
  readonly runId: string;
  readonly machine: MachineSnapshot;
  readonly call: Call;
  /** The effect was read back as made (false: only the intent is known). */
  readonly confirmed: boolean;
  /** Unix ms of the intent. */
  readonly intendedAtMs: number;
  /** Remote ids that the effect's step stored with `once`, by key. */
  readonly remote: Readonly<Record<string, unknown>>;
  /** What a person must know about the machine's VMID; kept at its reservation, while it rests too. */
  noteVmid(note: string): Promise<void>;
}

/** A step as the engine holds it: the types of input and output are checked at run time by the schemas. */
// oxlint-disable-next-line no-explicit-any -- variance: a registry of steps of different inputs
export type AnyStep = StepDefinition<any, any>;
// oxlint-disable-next-line no-explicit-any -- variance, as above
export type AnyEffect = EffectDefinition<any>;

/** Steps by id, effects by `kind@version`. */
export interface Registry {
  readonly steps: ReadonlyMap<string, AnyStep>;
  readonly effects: ReadonlyMap<string, AnyEffect>;
}

export function defineStep<I, O>(definition: StepDefinition<I, O>): StepDefinition<I, O> {
  return definition;
}

export function defineEffect<P>(definition: EffectDefinition<P>): EffectDefinition<P> {
  return definition;
}

/** `find` and `act` of a step that coalesces: alone it is a group of one. */
export function aloneAsGroup<I, O>(coalesce: Coalesce<I, O>): Pick<StepDefinition<I, O>, 'find' | 'act'> {
  return {
    find: async (input, ports, run) => (await coalesce.findMany?.([{ input, run }], ports, run.call))?.[0],
    act: async (input, ports, run) => {
      const [outcome] = await coalesce.actMany([{ input, run }], ports, run.call);
      if (outcome instanceof HatcheryError) throw outcome;
      return outcome as O | StepWait;
    },
  };
}

/** `undo` of an effect that coalesces. */
export function undoneAsGroup<P>(coalesce: CoalesceUndo<P>): Pick<EffectDefinition<P>, 'undo'> {
  return {
    undo: async (input, ports, run) => {
      const [failure] = await coalesce.undoMany([{ input, run }], ports, run.call);
      if (failure !== undefined) throw failure;
    },
  };
}

const UNIT_MS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** A duration in milliseconds. Throws a plain RangeError on text that is none: callers name the place. */
export function durationMs(text: string): number {
  const match = /^([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)$/.exec(text);
  if (!match)
    throw new RangeError(`"${text}" is not a duration: write a number and ms, s, m, h or d, e.g. 20m`);
  return Number(match[1]) * UNIT_MS[match[2] as keyof typeof UNIT_MS];
}
