import { percentile, round } from './bench.js';
import type { Boot, IdealRun } from './ideal-cluster.js';
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
  /** The lock was free and no clone asked for it. */
  readonly unasked: number;
  /** From the last use of the lock until the last machine was ready. */
  readonly tail: number;
}

/** What went on while the lock was free and no clone asked for it (simulated seconds, the ideal cluster has none of it): the first that holds. */
export interface Unasked {
  /** A clone's task ran: it was before, between or behind its two disks. */
  readonly inTask: number;
  /** A worker had claimed a clone, and its task did not run yet. */
  readonly request: number;
  /** A clone's task had ended, and its step was not done yet. */
  readonly unseen: number;
  /** Clones were due, and none was claimed: slots, queue, hand-off. */
  readonly queue: number;
  /** No clone was due. */
  readonly nothingDue: number;
}

/** Clone steps that workers had claimed, by what they were at: means while the lock was in use. */
export interface InFlight {
  readonly request: number;
  readonly task: number;
  readonly unseen: number;
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
const FIRST_BOOT = 'first boot';

/** The task that a step's outcome depends on, of either kind of guests. */
const TASK_OF: Readonly<Record<string, string>> = {
  clone: 'clone',
  create: 'create',
  resize: 'resize',
  start: 'start',
  address: BOOT,
  'first-boot': FIRST_BOOT,
};
/** The steps that make guests. */
const MAKERS = ['clone', 'create'];

const verbOf = (op: string): string => op.replace(/^(qemu|lxc)\./, '');

export interface DistanceReport extends Distance {
  readonly during: Unasked;
  readonly inFlight: InFlight;
}

/** `undefined` where no shared storage's lock was used. */
export function distance(record: RunRecord, makespanMs: number, ideal: IdealRun): DistanceReport | undefined {
  if (record.lock.length === 0) return undefined;
  const real = lockUse(record.lock);
  const wanted = ideal.lock;
  const unaskedMs = lengthOf(real.unasked);
  const spans = cloneSpans(record);
  const inUse = [{ fromMs: real.firstMs, toMs: real.lastMs }];
  const meanOf = (some: readonly Span[]): number =>
    round(some.reduce((sum, span) => sum + lengthOf(common(inUse, [span])), 0) / lengthOf(inUse), 2);
  const during: Record<string, number> = {};
  let left: readonly Span[] = real.unasked;
  for (const what of ['inTask', 'request', 'unseen', 'queue'] as const) {
    const now = common(left, spans[what]);
    during[what] = seconds(lengthOf(now));
    left = without(left, now);
  }
  return {
    total: seconds(makespanMs - ideal.makespanMs),
    lead: seconds(real.firstMs - wanted.firstMs),
    held: seconds(real.heldMs - wanted.heldMs),
    polling: seconds(real.pollingMs),
    unasked: seconds(unaskedMs - (wanted.lastMs - wanted.firstMs - wanted.heldMs)),
    tail: seconds(makespanMs - real.lastMs - (ideal.makespanMs - wanted.lastMs)),
    during: { ...during, nothingDue: seconds(lengthOf(left)) } as unknown as Unasked,
    inFlight: {
      request: meanOf(spans.request),
      task: meanOf(spans.inTask),
      unseen: meanOf(spans.unseen),
    },
  };
}

const seconds = (ms: number): number => round(ms / 1000, 1);

interface Span {
  readonly fromMs: number;
  readonly toMs: number;
}

function cloneSpans({ steps, tasks }: RunRecord): Record<'inTask' | 'request' | 'unseen' | 'queue', Span[]> {
  const clones = steps.filter(({ key }) => MAKERS.includes(key));
  const ofVmid = new Map(clones.map((step) => [step.vmid, step]));
  const running = tasks.filter(({ op }) => MAKERS.includes(verbOf(op)));
  const span = (fromMs: number, toMs: number): Span => ({ fromMs, toMs: Math.max(fromMs, toMs) });
  return {
    inTask: running.map(({ startedMs, endedMs }) => span(startedMs, endedMs)),
    request: running.flatMap(({ vmid, startedMs }) => {
      const step = ofVmid.get(vmid);
      return step ? [span(step.claimedMs, startedMs)] : [];
    }),
    unseen: running.flatMap(({ vmid, endedMs }) => {
      const step = ofVmid.get(vmid);
      return step ? [span(endedMs, step.doneMs)] : [];
    }),
    queue: clones.map(({ dueMs, claimedMs }) => span(dueMs, claimedMs)),
  };
}

/** How a lock's time was spent from its first use to its last. */
export function lockUse(lock: readonly LockRecord[]): {
  firstMs: number;
  lastMs: number;
  heldMs: number;
  /** It was free, and somebody waited for it. */
  pollingMs: number;
  /** When it was free and nobody waited. */
  unasked: readonly Span[];
} {
  const held = lock
    .flatMap(({ gotMs, endedMs }) => (gotMs === undefined ? [] : [{ fromMs: gotMs, toMs: endedMs }]))
    .toSorted((a, b) => a.fromMs - b.fromMs);
  const waits = lock.map(({ askedMs, gotMs, endedMs }) => ({ fromMs: askedMs, toMs: gotMs ?? endedMs }));
  const [firstMs, lastMs] = [held[0]?.fromMs ?? 0, held.at(-1)?.toMs ?? 0];
  const free = without([{ fromMs: firstMs, toMs: lastMs }], held);
  const unasked = without(free, waits);
  return {
    firstMs,
    lastMs,
    heldMs: lengthOf(held),
    pollingMs: lengthOf(free) - lengthOf(unasked),
    unasked,
  };
}

/** What of some spans is in none of the others. */
function without(spans: readonly Span[], others: readonly Span[]): Span[] {
  const away = others.toSorted((a, b) => a.fromMs - b.fromMs);
  return spans.flatMap((span) => {
    const left: Span[] = [];
    let reachedMs = span.fromMs;
    for (const { fromMs, toMs } of away) {
      if (toMs <= reachedMs) continue;
      if (fromMs >= span.toMs) break;
      if (fromMs > reachedMs) left.push({ fromMs: reachedMs, toMs: fromMs });
      reachedMs = toMs;
    }
    if (reachedMs < span.toMs) left.push({ fromMs: reachedMs, toMs: span.toMs });
    return left;
  });
}

const common = (spans: readonly Span[], others: readonly Span[]): Span[] =>
  without(spans, without(spans, others));

const lengthOf = (spans: readonly Span[]): number =>
  spans.reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs, 0);

/** Where machines waited, step by step in the order of their first claims. `boots`: by VMID. */
export function stepDelays(record: RunRecord, boots: ReadonlyMap<number, Boot>): StepDelays[] {
  const byKey = new Map<string, StepRecord[]>();
  for (const step of record.steps) byKey.set(step.key, [...(byKey.get(step.key) ?? []), step]);
  const tasks = new Map<string, { startedMs: number; endedMs: number }>(
    record.tasks.map((task) => [`${task.vmid}/${verbOf(task.op)}`, task]),
  );
  for (const { vmid, op, endedMs } of record.tasks) {
    const boot = boots.get(vmid);
    if (verbOf(op) !== 'start' || boot === undefined) continue;
    const upMs = endedMs + boot.upMs;
    tasks.set(`${vmid}/${BOOT}`, { startedMs: endedMs, endedMs: upMs });
    if (boot.firstBootMs > 0)
      tasks.set(`${vmid}/${FIRST_BOOT}`, { startedMs: upMs, endedMs: upMs + boot.firstBootMs });
  }
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
        start: [BOOT, FIRST_BOOT].includes(TASK_OF[key] ?? '') ? undefined : spread(starts),
        seen: hasTask ? spread(ofTasks.map(({ step, task }) => step.doneMs - task.endedMs)) : undefined,
        attemptsPerMachine: round(steps.reduce((sum, { attempts }) => sum + attempts, 0) / steps.length, 2),
      };
    });
}

/** One machine's way: when each of its steps was due, claimed and done, in simulated seconds since the submit. */
export function timeline(record: RunRecord, machine: string): Record<string, readonly number[]> {
  const vmid = record.machines.find(({ id }) => id === machine)?.vmid;
  const steps = record.steps.filter((step) => step.vmid === vmid).toSorted((a, b) => claim(a) - claim(b));
  return Object.fromEntries(
    steps.map(({ key, dueMs, claimedMs, doneMs }) => [key, [dueMs, claimedMs, doneMs].map(seconds)]),
  );
}

const claim = ({ claimedMs }: StepRecord): number => claimedMs;

const spread = (valuesMs: readonly number[]): Spread => ({
  mean: round(valuesMs.reduce((sum, value) => sum + value, 0) / valuesMs.length / 1000, 2),
  p95: round(percentile(valuesMs, 0.95) / 1000, 2),
});
