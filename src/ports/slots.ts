import type { Admission, HeldSlot, WaitingStep } from '../core/admission.js';
import type { LockWait, MeasuredLimit } from '../core/slot-limit.js';
import type { HeldStep } from './run-store.js';

/** Slots of a cluster's resources and the steps that wait for them. A slot is one row, unique by resource and number: two dispatchers cannot give it twice. */
export interface Slots {
  /**
   * Due steps that wait for slots, at most `perLine` of those of one owner that want the same, and who holds the slots that they want.
   * Nothing waits while the cluster is stopped. One read, whose cost grows with the lines and not with the steps in them.
   */
  view(
    cluster: string,
    perLine: number,
  ): Promise<{ readonly waiting: readonly WaitingStep[]; readonly held: readonly HeldSlot[] }>;
  /** Writes an admission and hands its steps to the outbox: all of it, or nothing when another dispatcher was faster. Gives how many steps. */
  take(admitted: Admission['admitted']): Promise<number>;
}

/** `fixed` = a person said so; else `measured`, if it follows the lock wait; else what is configured. */
export interface SlotLimit {
  readonly resource: string;
  readonly fixed: number | undefined;
  readonly measured: MeasuredLimit | undefined;
}

/** How many slots the resources of a cluster have. Kept in the store; `measured` has one writer, the cluster's dispatcher. */
export interface SlotLimits {
  /** Notes how long a clone of this attempt waited for its storage's lock. A stale holder's word counts for nothing. */
  noteWait(held: HeldStep, resource: string, wait: Omit<LockWait, 'admittedAtMs'>): Promise<void>;
  /** The limits, and the waits noted since the last time, which are forgotten with it. */
  read(cluster: string): Promise<{
    readonly limits: readonly SlotLimit[];
    readonly waits: ReadonlyMap<string, readonly LockWait[]>;
    readonly nowMs: number;
  }>;
  /** Makes a resource known, or writes its measured limit. */
  save(cluster: string, resource: string, measured: MeasuredLimit | undefined): Promise<void>;
  list(
    cluster: string,
  ): Promise<readonly (SlotLimit & { readonly inUse: number; readonly waiting: number })[]>;
  /** Fixes limits, or with `undefined` lets them go, with an audit line each: all of them, or none when a resource is not known. */
  fix(cluster: string, wanted: ReadonlyMap<string, number | undefined>, actor: string): Promise<boolean>;
}
