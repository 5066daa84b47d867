import { percentile, round } from './bench.js';
import type { IdealRun } from './ideal-cluster.js';
import type { LockRecord, RunRecord, StepRecord } from './run-record.js';

/** Simulated seconds. The parts add up to `total`: what the product needed more than the ideal cluster. */
export interface Distance {
  readonly total: number;
  /** From the submit until the storage's lock was first taken. */
  readonly lead: number;
  /** The lock was held: retried clones, removed disks. */
  readonly held: number;
  /** The lock was free, and whoever waited for it slept until its next look. */
  readonly polling: number;
  /** The lock was free and no clone asked for it: waiting for a slot, for a worker, for a verdict to be seen. */
  readonly unasked: number;
  /** From the last use of the lock until the last machine was ready. */
  readonly tail: number;
}

export interface InFlight {
  /** Clone steps that a worker had claimed, and clone tasks that ran, at one time: means while the lock was in use. */
  readonly steps: number;
  readonly tasks: number;
}

/** Simulated seconds of one step, over all machines. */
export interface StepDelays {
  readonly step: string;
  /** From the end of what it needs until a worker claimed it: slot, queue, hand-off. */
  readonly wait: Spread;
  /** From the claim until its task ran; of a step without a task: until it was done. */
  readonly start: Spread | undefined;
  /** From the end of its task, or the moment at which the agent was up, until the step was done in the database. */
  readonly seen: Spread | undefined;
  readonly attemptsPerMachine: number;
}
type Spread = { readonly mean: number; readonly p95: number };

/** What a guest does by itself. */
const BOOT = 'boot';

/** The task that a step's outcome depends on. */
const TASK_OF: Readonly<Record<string, string>> = {
  clone: 'qemu.clone',
  resize: 'qemu.resize',
  start: 'qemu.start',
  address: BOOT,
};

/** `undefined` where no shared storage's lock was used. */
export function distance(
  record: RunRecord,
  makespanMs: number,
  ideal: IdealRun,
): (Distance & { readonly inFlight: InFlight }) | undefined {
  if (record.lock.length === 0) return undefined;
  const real = lockUse(record.lock);
  const wanted = ideal.lock;
  const wantedIdleMs = wanted.lastMs - wanted.firstMs - wanted.heldMs;
  const parts = {
    total: makespanMs - ideal.makespanMs,
    lead: real.firstMs - wanted.firstMs,
    held: real.heldMs - wanted.heldMs,
    polling: real.pollingMs,
    unasked: real.unaskedMs - wantedIdleMs,
    tail: makespanMs - real.lastMs - (ideal.makespanMs - wanted.lastMs),
  };
  const clones = record.steps.filter(({ key }) => key === 'clone');
  const tasks = record.tasks.filter(({ op }) => op === 'qemu.clone');
  const share = (spans: readonly { fromMs: number; toMs: number }[]): number =>
    round(spanned(spans, real.firstMs, real.lastMs) / (real.lastMs - real.firstMs), 2);
  return {
    ...(Object.fromEntries(
      Object.entries(parts).map(([name, ms]) => [name, round(ms / 1000, 1)]),
    ) as unknown as Distance),
    inFlight: {
      steps: share(clones.map(({ claimedMs, doneMs }) => ({ fromMs: claimedMs, toMs: doneMs }))),
      tasks: share(tasks.map(({ startedMs, endedMs }) => ({ fromMs: startedMs, toMs: endedMs }))),
    },
  };
}

/** Sum of the parts of the spans between two moments. */
const spanned = (spans: readonly { fromMs: number; toMs: number }[], fromMs: number, toMs: number): number =>
  spans.reduce(
    (sum, span) => sum + Math.max(0, Math.min(span.toMs, toMs) - Math.max(span.fromMs, fromMs)),
    0,
  );

/** How a lock's time was spent from its first use to its last. */
export function lockUse(lock: readonly LockRecord[]): {
  firstMs: number;
  lastMs: number;
  heldMs: number;
  pollingMs: number;
  unaskedMs: number;
} {
  const holds = lock
    .flatMap(({ gotMs, endedMs }) => (gotMs === undefined ? [] : [{ gotMs, endedMs }]))
    .toSorted((a, b) => a.gotMs - b.gotMs);
  const firstMs = holds[0]?.gotMs ?? 0;
  let [heldMs, pollingMs, unaskedMs, freeSinceMs] = [0, 0, 0, firstMs];
  for (const { gotMs, endedMs } of holds) {
    const waiters = lock
      .filter((one) => one.askedMs < gotMs && (one.gotMs ?? one.endedMs) > freeSinceMs)
      .map((one) => ({ fromMs: one.askedMs, toMs: one.gotMs ?? one.endedMs }));
    const wantedMs = covered(waiters, freeSinceMs, gotMs);
    pollingMs += wantedMs;
    unaskedMs += Math.max(0, gotMs - freeSinceMs - wantedMs);
    heldMs += endedMs - gotMs;
    freeSinceMs = endedMs;
  }
  return { firstMs, lastMs: freeSinceMs, heldMs, pollingMs, unaskedMs };
}

/** Length of what the spans cover together between two moments. */
function covered(spans: readonly { fromMs: number; toMs: number }[], fromMs: number, toMs: number): number {
  let [sum, reachedMs] = [0, fromMs];
  for (const span of spans.toSorted((a, b) => a.fromMs - b.fromMs)) {
    const end = Math.min(span.toMs, toMs);
    sum += Math.max(0, end - Math.max(span.fromMs, reachedMs));
    reachedMs = Math.max(reachedMs, end);
  }
  return sum;
}

/** Where machines waited, step by step in the order of their first claims. `boots`: simulated milliseconds from start to agent, by VMID. */
export function stepDelays(record: RunRecord, boots: ReadonlyMap<number, number>): StepDelays[] {
  const byKey = new Map<string, StepRecord[]>();
  for (const step of record.steps) byKey.set(step.key, [...(byKey.get(step.key) ?? []), step]);
  const tasks = new Map<string, { startedMs: number; endedMs: number }>(
    record.tasks.map((task) => [`${task.vmid}/${task.op}`, task]),
  );
  for (const { vmid, op, endedMs } of record.tasks)
    if (op === 'qemu.start')
      tasks.set(`${vmid}/${BOOT}`, { startedMs: endedMs, endedMs: endedMs + boots.get(vmid)! });
  return [...byKey]
    .toSorted(([, a], [, b]) => Math.min(...a.map(claim)) - Math.min(...b.map(claim)))
    .map(([key, steps]) => {
      const ofTasks = steps.flatMap((step) => {
        const task = tasks.get(`${step.vmid}/${TASK_OF[key]}`);
        return task === undefined ? [] : [{ step, task }];
      });
      const hasTask = ofTasks.length > 0;
      const starts = hasTask
        ? ofTasks.map(({ step, task }) => task.startedMs - step.claimedMs)
        : steps.map(({ claimedMs, doneMs }) => doneMs - claimedMs);
      return {
        step: key,
        wait: spread(steps.map(({ dueMs, claimedMs }) => claimedMs - dueMs)),
        // A boot has begun when somebody begins to wait for it.
        start: TASK_OF[key] === BOOT ? undefined : spread(starts),
        seen: hasTask ? spread(ofTasks.map(({ step, task }) => step.doneMs - task.endedMs)) : undefined,
        attemptsPerMachine: round(steps.reduce((sum, { attempts }) => sum + attempts, 0) / steps.length, 2),
      };
    });
}

const claim = ({ claimedMs }: StepRecord): number => claimedMs;

const spread = (valuesMs: readonly number[]): Spread => ({
  mean: round(valuesMs.reduce((sum, value) => sum + value, 0) / valuesMs.length / 1000, 2),
  p95: round(percentile(valuesMs, 0.95) / 1000, 2),
});
