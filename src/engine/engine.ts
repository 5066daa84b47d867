import type { ErrorRecord } from '../core/errors.js';
import type { AnyEffect, AnyStep, StepPorts } from '../plan/step.js';
import type { Checkpoints } from '../ports/checkpoints.js';
import type { VmidRange } from '../core/vmids.js';
import type { ClusterStops } from '../ports/cluster-stops.js';
import type { Clock } from '../ports/clock.js';
import type { Dispatch, WakeUps } from '../ports/dispatch.js';
import type { Locks } from '../ports/locks.js';
import type { RunStore } from '../ports/run-store.js';
import type { SlotLimits, Slots } from '../ports/slots.js';
import type { StepGroups } from '../ports/step-groups.js';
import type { RetryBudget } from './retry-budget.js';
import { RunModel } from './run-model.js';
import type { LoadedRun, RunChanges } from '../ports/run-store.js';

/** Every time that the engine measures by. Only the last two, which face the remote side, scale with the demo. */
export interface EngineTimes {
  readonly leaseMs: number;
  readonly heartbeatMs: number;
  readonly sweepMs: number;
  /** How long a dispatched step may stay unclaimed before the queue is asked whether it still knows it. */
  readonly overdueMs: number;
  /** How long an attempt waits for its locks. */
  readonly lockWaitMs: number;
  /** The longest time that a request to a remote side may take to arrive. */
  readonly longestRequestMs: number;
  /** Factor on the gaps between tries. */
  readonly backOffScale: number;
  /** How long a step waits for a cluster without quorum, a node that is off or somebody's job on its guest. */
  readonly waitLimitMs: number;
}

export const DEFAULT_TIMES: EngineTimes = {
  leaseMs: 6_000,
  heartbeatMs: 2_000,
  sweepMs: 1_000,
  overdueMs: 4_000,
  lockWaitMs: 30_000,
  longestRequestMs: 35_000,
  backOffScale: 1,
  waitLimitMs: 1_800_000,
};

export interface EngineLog {
  debug(facts: object, sentence: string): void;
  info(facts: object, sentence: string): void;
  warn(facts: object, sentence: string): void;
  error(facts: object, sentence: string): void;
}

/** Keeps steps away from a cluster that is out. */
export interface Breaker {
  /** After a failed attempt on the cluster. Never rejects. */
  suspect(cluster: string, failure: ErrorRecord): Promise<void>;
  /** Asks a cluster that is out whether it is back. Gives whether work goes on; at once and without a question when it is too early. */
  probe(cluster: string): Promise<boolean>;
}

export interface EngineParts {
  readonly store: RunStore;
  readonly breaker: Breaker;
  readonly retryBudget: RetryBudget;
  readonly groups: StepGroups;
  readonly stops: ClusterStops;
  readonly slots: Slots;
  readonly slotLimits: SlotLimits;
  /** VMIDs that are ours to give on a cluster. */
  readonly rangeOf: (cluster: string) => VmidRange;
  readonly dispatch: Dispatch;
  readonly locks: Locks;
  readonly wakeUps: WakeUps;
  readonly clock: Clock;
  readonly checkpoints: Checkpoints;
  readonly ports: StepPorts;
  readonly steps: ReadonlyMap<string, AnyStep>;
  /** By `kind@version`. */
  readonly effects: ReadonlyMap<string, AnyEffect>;
  readonly deployment: string;
  readonly times: EngineTimes;
  readonly log: EngineLog;
  /** 0 to 1, for the spread of retries. */
  readonly random: () => number;
}

/**
 * Changes a run in one transaction and wakes whoever has to look; `undefined` = there is no such run or step.
 * With `inHand` the run is not read again, unless somebody else changed it meanwhile.
 */
export async function changeRun<T>(
  parts: Pick<
    EngineParts,
    'store' | 'steps' | 'effects' | 'times' | 'wakeUps' | 'random' | 'retryBudget' | 'clock'
  >,
  by: { stepId: string } | { runId: string },
  work: (model: RunModel, loaded: LoadedRun) => T,
  inHand?: LoadedRun,
): Promise<T | undefined> {
  const { times } = parts;
  let changed: RunModel | undefined;
  const apply = (loaded: LoadedRun): { changes: RunChanges; result: T } => {
    const model = new RunModel(loaded, parts, {
      settleMs: times.leaseMs + times.longestRequestMs,
      backOffScale: times.backOffScale,
      waitLimitMs: times.waitLimitMs,
      place: () => parts.retryBudget.take(loaded.machine.cluster, parts.clock.monotonicMs()),
      random: parts.random,
    });
    const answer = work(model, loaded);
    changed = model;
    return { changes: model.changes, result: answer };
  };
  const written = inHand && (await parts.store.changeInHand(inHand, apply));
  const result = written ? written.result : await parts.store.change(by, apply);
  if (changed) wake(parts.wakeUps, changed);
  return result;
}

function wake(wakeUps: WakeUps, model: RunModel): void {
  const { dispatches, events } = model.changes;
  if (dispatches.length > 0) wakeUps.notify('outbox');
  if (model.isForDispatcher) wakeUps.notify('work');
  if (events.length > 0) wakeUps.notify('events');
}
