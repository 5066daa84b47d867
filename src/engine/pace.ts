import type { ErrorCode, ErrorRecord } from '../core/errors.js';
import type { CompiledStep } from '../plan/compiled-plan.js';
import type { AttemptOutcome } from '../ports/run-store.js';

/** When a run tries again. */
export interface Pace {
  /** How long a request may take to arrive after its attempt has ended: lease + longest request, milliseconds. */
  readonly settleMs: number;
  /** Factor on the gaps between tries; below 1 only where the remote side itself is faster than a real one. */
  readonly backOffScale: number;
  /** How long a step waits for what passes by itself before a person has to look, milliseconds. */
  readonly waitLimitMs: number;
  /** Takes a place among the retries of the run's cluster; gives how far away it is, milliseconds. */
  readonly place: () => number;
  /** 0 to 1: what failed together must not come back together. */
  readonly random: () => number;
}

export type RetryGaps = CompiledStep['retry'];

/** Gap after the given number of tries: doubles from `firstMs` to `maxMs`; anywhere in its second half. */
export function backOff(retry: RetryGaps, tries: number, pace: Pace): number {
  const fullMs = Math.min(retry.maxMs, retry.firstMs * 2 ** Math.max(0, tries - 1));
  return fullMs * (0.5 + pace.random() / 2) * pace.backOffScale;
}

/** A gap that the thrower chose is kept, and up to a quarter longer. */
export const noSoonerThan = (afterMs: number, pace: Pace): number => afterMs * (1 + pace.random() / 4);

/** Gap while a step waits for what passes by itself: a quarter of what it waited so far, within the step's own gaps. */
export function waitGap(retry: RetryGaps, waitedMs: number, pace: Pace): number {
  const { backOffScale } = pace;
  const fullMs = Math.min(retry.maxMs * backOffScale, Math.max(retry.firstMs * backOffScale, waitedMs / 4));
  return fullMs * (0.5 + pace.random() / 2);
}

const PASSING_CODES: ReadonlySet<ErrorCode> = new Set(['cluster-no-quorum', 'cluster-unreachable']);

/** The cluster as a whole, or a job of somebody else on the guest (`facts.lock`), is in the way: waiting for that is not a try. */
export const passesByItself = ({ code, facts }: ErrorRecord): boolean =>
  PASSING_CODES.has(code) || facts?.['lock'] !== undefined;

const UNSURE_CODES: ReadonlySet<ErrorCode> = new Set(['outcome-unknown', 'step-timeout', 'internal']);

/** After an attempt that ended so, one of its requests may still be on its way. */
export const mayStillArrive = (outcome: AttemptOutcome, code: ErrorCode | undefined): boolean =>
  outcome === 'lost' || outcome === 'handed-over' || (code !== undefined && UNSURE_CODES.has(code));
