/**
 * How long work still takes. People read it as these fields of the API, all of one meaning:
 *   POST batches/plan                       estimateSeconds, expectedReadyAt
 *   GET batches, batches/{id}               remainingSeconds, expectedReadyAt       (null when unknown, or when nothing is at work)
 *   GET machines, machines/{id}, batches/{id}/machines   the same two, of one machine (null once it is ready, or parked)
 *   event batch.progress                    data.remainingSeconds, data.expectedReadyAt
 * Seconds count from the answer on; times are ISO 8601 and mean the moment at which the last machine is ready, as likely before as after.
 */
import { meanLeftMs, normalShare, varianceLeft, type Duration } from './durations.js';
import { Heap } from './heap.js';

/** What is left to do for one machine. Steps stand in an order that respects `needs`; those that are over are left out. */
export interface WorkAhead {
  readonly machine: string;
  readonly owner: string;
  readonly steps: readonly StepAhead[];
}

export interface StepAhead {
  /** Places in `steps` of what has to be over first. */
  readonly needs: readonly number[];
  readonly slots: readonly string[];
  /** Steps on the longest way from here to the end. */
  readonly rank: number;
  /** `undefined` = nothing is known of it. */
  readonly duration: Duration | undefined;
  /** At work for so long: it holds its slots. `undefined` = not begun. */
  readonly sinceMs?: number;
  /** It begins no sooner than in so long (a gap between two tries). */
  readonly notBeforeMs?: number;
}

/** When a machine is ready: nothing can make it sooner than `certainMs`; what comes on top has this mean and variance. */
export interface TimeLeft {
  readonly certainMs: number;
  readonly meanMs: number;
  readonly variance: number;
}

/**
 * Plays the rest of the work with mean durations through the slots, as the dispatcher admits it: to the owner with the smallest share, then
 * to what is nearest to its end, then to whom was accepted first. `undefined` for a machine with a step of which nothing is known; others do
 * not wait for it. Milliseconds of computing for thousands of steps.
 */
export function timesLeft(
  work: readonly WorkAhead[],
  limitOf: (slot: string) => number,
): ReadonlyMap<string, TimeLeft | undefined> {
  const known = work.filter(({ steps }) => steps.every(({ duration }) => duration !== undefined));
  const replay = new Replay(known, limitOf);
  replay.run();
  return new Map([
    ...work.map(({ machine }): [string, undefined] => [machine, undefined]),
    ...known.map(({ machine }, index): [string, TimeLeft] => [machine, replay.endOf(index)]),
  ]);
}

/** Mean milliseconds until one machine is ready. */
export const meanOf = ({ certainMs, meanMs }: TimeLeft): number => certainMs + meanMs;

/** Milliseconds until all of them are ready, as likely as not: later than the mean of the last, for any of those near the end may be late. */
export function lastOf(times: readonly TimeLeft[]): number {
  let low = Math.max(0, ...times.map(({ certainMs }) => certainMs));
  let high = Math.max(0, ...times.map((time) => meanOf(time) + 6 * Math.sqrt(time.variance)));
  for (let round = 0; round < 40 && high - low > 1; round += 1) {
    const middle = (low + high) / 2;
    let all = 1;
    for (const time of times) all *= shareReady(time, middle);
    if (all < 0.5) low = middle;
    else high = middle;
  }
  return high;
}

/** What comes on top of the certain part is log-normal, as its steps are. */
function shareReady({ certainMs, meanMs, variance }: TimeLeft, atMs: number): number {
  const left = atMs - certainMs;
  if (meanMs <= 0 || variance <= 0) return left >= meanMs ? 1 : 0;
  if (left <= 0) return 0;
  const squared = Math.log(1 + variance / (meanMs * meanMs));
  return normalShare((Math.log(left / meanMs) + squared / 2) / Math.sqrt(squared));
}

const NOW: TimeLeft = { certainMs: 0, meanMs: 0, variance: 0 };

interface Place {
  readonly machine: number;
  readonly step: number;
}

/** One kind of slot as one owner sees it. */
interface Share {
  readonly resource: { readonly limit: number; used: number };
  used: number;
}

/** Steps of one owner that want the same slots. */
interface Line {
  readonly shares: readonly Share[];
  readonly waiting: Heap<Place>;
}

class Replay {
  private nowMs = 0;
  private readonly ends = new Heap<Place>();
  private readonly begins = new Heap<Place>();
  private readonly lines = new Map<string, Line>();
  private readonly resources = new Map<string, Share['resource']>();
  private readonly shares = new Map<string, Share>();
  /** How many needs each step still has, and when it is over. */
  private readonly open: number[][];
  private readonly over: (TimeLeft | undefined)[][];

  constructor(
    private readonly work: readonly WorkAhead[],
    private readonly limitOf: (slot: string) => number,
  ) {
    this.open = work.map(({ steps }) => steps.map(({ needs }) => needs.length));
    this.over = work.map(({ steps }) => steps.map(() => undefined));
  }

  run(): void {
    for (const [machine, { steps }] of this.work.entries())
      for (const [step, { needs, sinceMs }] of steps.entries()) {
        if (needs.length > 0) continue;
        if (sinceMs === undefined) this.due({ machine, step });
        else this.begin({ machine, step }, NOW);
      }
    this.admit();
    for (;;) {
      const [end, begin] = [this.ends.first ?? Infinity, this.begins.first ?? Infinity];
      if (end === Infinity && begin === Infinity) return;
      this.nowMs = Math.min(end, begin);
      if (begin <= end) this.ready(this.begins.take()!);
      else this.end(this.ends.take()!);
      if ((this.ends.first ?? Infinity) > this.nowMs && (this.begins.first ?? Infinity) > this.nowMs)
        this.admit();
    }
  }

  endOf(machine: number): TimeLeft {
    const ends = this.over[machine]!.flatMap((end) => end ?? []);
    return ends.reduce((last, end) => (meanOf(end) > meanOf(last) ? end : last), NOW);
  }

  private due(place: Place): void {
    const { notBeforeMs = 0 } = this.stepAt(place);
    if (notBeforeMs > this.nowMs) this.begins.add(notBeforeMs, place);
    else this.ready(place);
  }

  private ready(place: Place): void {
    const { slots, rank } = this.stepAt(place);
    if (slots.length === 0) this.begin(place, this.startOf(place));
    else this.lineOf(place).waiting.add(rank * this.work.length + place.machine, place);
  }

  private admit(): void {
    for (let line = this.next(); line; line = this.next()) {
      const place = line.waiting.take()!;
      this.begin(place, this.startOf(place));
    }
  }

  /** Who waited begins when the line lets it: what its own steps took before makes no difference any more. */
  private startOf(place: Place): TimeLeft {
    const need = this.latestNeed(place);
    const hasWaited = this.nowMs > meanOf(need) + 1;
    return hasWaited ? { certainMs: this.nowMs, meanMs: 0, variance: 0 } : need;
  }

  private next(): Line | undefined {
    let best: { line: Line; share: number; first: number } | undefined;
    for (const line of this.lines.values()) {
      const { first } = line.waiting;
      if (first === undefined || line.shares.some(({ resource }) => resource.used >= resource.limit))
        continue;
      const share = Math.max(...line.shares.map(({ used, resource }) => used / resource.limit));
      if (!best || share < best.share || (share === best.share && first < best.first))
        best = { line, share, first };
    }
    return best?.line;
  }

  private begin(place: Place, from: TimeLeft): void {
    const { duration, sinceMs = 0 } = this.stepAt(place);
    this.hold(place, 1);
    const meanMs = meanLeftMs(duration!, sinceMs);
    this.over[place.machine]![place.step] = {
      certainMs: from.certainMs,
      meanMs: from.meanMs + meanMs,
      variance: from.variance + varianceLeft(duration!, sinceMs),
    };
    this.ends.add(this.nowMs + meanMs, place);
  }

  private end(place: Place): void {
    const { steps } = this.work[place.machine]!;
    this.hold(place, -1);
    const open = this.open[place.machine]!;
    for (const [step, { needs }] of steps.entries()) {
      if (!needs.includes(place.step)) continue;
      open[step]! -= 1;
      if (open[step] === 0) this.due({ machine: place.machine, step });
    }
  }

  private hold(place: Place, by: 1 | -1): void {
    if (this.stepAt(place).slots.length === 0) return;
    for (const share of this.lineOf(place).shares) {
      share.used += by;
      share.resource.used += by;
    }
  }

  private lineOf(place: Place): Line {
    const { owner } = this.work[place.machine]!;
    const { slots } = this.stepAt(place);
    return found(this.lines, `${owner} ${slots.join(' ')}`, () => ({
      shares: slots.map((slot) =>
        found(this.shares, `${owner} ${slot}`, () => ({
          resource: found(this.resources, slot, () => ({ limit: this.limitOf(slot), used: 0 })),
          used: 0,
        })),
      ),
      waiting: new Heap(),
    }));
  }

  private latestNeed({ machine, step }: Place): TimeLeft {
    const over = this.over[machine]!;
    return this.work[machine]!.steps[step]!.needs.reduce((latest, need) => {
      const end = over[need];
      return end !== undefined && meanOf(end) > meanOf(latest) ? end : latest;
    }, NOW);
  }

  private stepAt({ machine, step }: Place): StepAhead {
    return this.work[machine]!.steps[step]!;
  }
}

function found<T>(known: Map<string, T>, key: string, make: () => T): T {
  const there = known.get(key);
  if (there !== undefined) return there;
  const made = make();
  known.set(key, made);
  return made;
}
