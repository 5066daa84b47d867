import type { SimulatorContext } from '../context.js';
import type { FiredFaults } from '../faults.js';
import type { JournalEntry } from '../journal.js';
import type { World, WorldGuest, WorldHaMove, WorldStorage } from '../world.js';
import type { Account } from './auth.js';
import { KINDS, type GuestKind } from './guest-kind.js';
import type { ClusterLocks, FileLocks } from './locks.js';
import type { Params, ParamSpecs } from './params.js';
import type { TaskEngine } from './task-engine.js';
import { failure } from './wire.js';

/** What one worker was told last by every pvestatd: rows of numbers. */
export interface Told {
  guest(vmid: number): Record<string, unknown> | undefined;
  node(name: string): Record<string, unknown> | undefined;
  storage(node: string, id: string): Record<string, unknown> | undefined;
}

/** The HA manager as calls see it. */
interface HaManager {
  isManaged(vmid: number): boolean;
  isInError(sid: string): boolean;
  stateOf(vmid: number): string | undefined;
  requestState(vmid: number, state: 'started' | 'stopped'): void;
  requestMove(move: WorldHaMove): void;
  forget(sid: string): void;
  clearError(sid: string): void;
}

/** What is wrong with the cluster, as calls see it. */
interface ClusterConditions {
  needQuorum(): void;
  needVolume(vmid: number, volid: string): void;
  isOff(node: string): boolean;
  isConfigHidden(vmid: number): boolean;
  filledGiB(storage: WorldStorage, node: string): number;
  agentOf(guest: WorldGuest): { readonly upAtMs: number; readonly extraNics: number };
}

/** Brings calls to the node that executes them. */
interface Carrier {
  nodeDown(node: string): void;
  execute(
    route: Route,
    local: string,
    node: string,
    work: (worker: number) => Promise<Handled>,
  ): Promise<Handled>;
}

/** The running cluster: the world and what only lives while the simulator runs. */
export interface Pve {
  readonly context: SimulatorContext;
  readonly world: World;
  readonly files: FileLocks;
  readonly locks: ClusterLocks;
  readonly tasks: TaskEngine;
  /** `reader` is one worker of one node. */
  readonly broadcast: { read(reader: string): Told };
  readonly proxying: Carrier;
  readonly ha: HaManager;
  readonly conditions: ClusterConditions;
  /** Copies that run now, by storage: they share its rate. */
  readonly copies: Map<string, number>;
  /** Files that were uploaded and that no call has taken yet, by the path where the server keeps them. */
  readonly uploads: Map<string, Buffer>;
  /** SHA-256 of each node's certificate. */
  readonly fingerprints: ReadonlyMap<string, string>;
}

/** One call as a handler sees it: authenticated, permitted, checked. */
export interface PveCall {
  readonly pve: Pve;
  readonly account: Account;
  /** The node that got the request. */
  readonly local: string;
  /** The node of the path, or `local`. */
  readonly node: string;
  /** Which of the node's workers has it. */
  readonly worker: number;
  /** Of the path; 0 where the path has none. */
  readonly vmid: number;
  readonly path: Readonly<Record<string, string>>;
  readonly params: Params;
  readonly faults: FiredFaults;
  readonly op: string;
}

export interface Handled {
  readonly data: unknown;
  readonly total?: number;
  readonly journal?: Partial<JournalEntry>;
}

/** How long a call takes before it is handled: see durations.ts. `read` runs in pveproxy, all others in pvedaemon (`protected`). */
type CallKind = 'read' | 'protected-read' | 'storage-content' | 'fork' | 'config-write' | 'agent';

export interface Route {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly path: string;
  readonly op: string;
  readonly kind: CallKind;
  readonly params: ParamSpecs;
  /** Only this version has it. */
  readonly version?: '8.4' | '9.1';
  /** Answered by the node that got it, though its path names one. */
  readonly local?: true;
  /** API tokens may not call it. */
  readonly allowToken?: false;
  /** Needs no sign-in, and looks at none. */
  readonly guest?: true;
  /** The declared permission: tested before the parameters. Throws. `raw` are unchecked parameters. */
  readonly permit?: (
    account: Account,
    path: Readonly<Record<string, string>>,
    raw: (key: string) => string | undefined,
    world: World,
  ) => void;
  readonly handle: (call: PveCall) => Handled | Promise<Handled>;
}

/** The guest of this kind on this node, or the error of a missing config file. */
export function guestOn(pve: Pve, node: string, vmid: number, kind: GuestKind = 'qemu'): WorldGuest {
  const guest = pve.world.guests.get(vmid);
  if (!guest || guest.node !== node || guest.kind !== kind || pve.conditions.isConfigHidden(vmid))
    throw failure(`Configuration file 'nodes/${node}/${KINDS[kind].folder}/${vmid}.conf' does not exist`);
  return guest;
}

export function checkUnlocked({ kind, config }: WorldGuest): void {
  const lock = config['lock'];
  if (lock !== undefined) throw failure(`${KINDS[kind].word} is locked (${lock})`);
}
