import { atZ, durationOf, shareBefore, type Duration, type Sighting } from './durations.js';

/** When a guest is asked for what its boot brings, in milliseconds from the start of the wait. */
export interface AskTimes {
  readonly firstMs: number;
  /** From the `asked`-th question (1 = the first) that found nothing to the next. */
  gapMs(asked: number): number;
}

/** What past boots say about the next one. */
export interface BootTimes {
  readonly came: Duration;
  /** The smallest time that was enough in the newest questions that all were answered at once, and how unlikely (nats) that run is. */
  readonly earliestMs: number;
  readonly doubt: number;
}

/** A container has its address seconds after its start. */
const DEFAULT_FIRST_MS = { qemu: 20_000, lxc: 4_000 } as const;
/** Short: the first machine of a new blueprint is the one that somebody watches. */
const DEFAULT_GAP_MS = 2_500;
const BOUNDS_MS = { first: [2_000, 300_000], gap: [1_000, 15_000] } as const;
/** Fewer boots say nothing. */
const ENOUGH = 3;
/** After a question that found nothing the gap grows by this factor: boots that take far longer than ever are not asked every second. */
const GAP_GROWTH = 1.5;
/** One machine in this many asks around the median: without it nobody would notice that boots take less time than they did. */
const PROBE_EACH = 12;
/** When questions are answered at once too often to be believed, one in this many asks much earlier. */
const SEARCH_EACH = 3;
const DOUBT_NATS = 3;

export function bootTimes(sightings: readonly Sighting[]): BootTimes | undefined {
  const came = durationOf(sightings);
  if (came === undefined) return undefined;
  const lastMiss = sightings.findLastIndex(({ afterMs }) => afterMs > 0);
  const run = sightings.slice(Math.max(lastMiss + 1, sightings.length - came.count));
  return {
    came,
    earliestMs: Math.min(...run.map(({ byMs }) => byMs)),
    doubt: run.reduce((sum, { byMs }) => sum - Math.log(Math.max(1e-9, shareBefore(came, byMs))), 0),
  };
}

/**
 * Asks one machine. Most are asked once, when about nine in ten have come; then again after a part of the spread. A few ask earlier: a late
 * question teaches only that it was not too early. `chance`: a number of this machine, 0 to 1; `scale`: of the time of the remote side.
 */
export function askTimes(
  known: BootTimes | undefined,
  chance: number,
  scale: number,
  kind: 'qemu' | 'lxc' = 'qemu',
): AskTimes {
  if (known === undefined || known.came.count < ENOUGH)
    return { firstMs: DEFAULT_FIRST_MS[kind] * scale, gapMs: growing(DEFAULT_GAP_MS * scale, scale) };
  const { came } = known;
  const usualMs = bounded(atZ(came, came.isUpperEnd ? 0 : firstZ(came)), BOUNDS_MS.first, scale);
  const firstMs = Math.min(usualMs, Math.max(BOUNDS_MS.first[0] * scale, earlyMs(known, chance) ?? Infinity));
  const gapMs = growing((atZ(came, 1.2816) - atZ(came, -1.2816)) / 4, scale);
  const isEarly = firstMs < usualMs;
  return {
    firstMs,
    gapMs: (asked) =>
      isEarly && asked === 1 ? Math.max(gapMs(1), usualMs - firstMs) : gapMs(isEarly ? asked - 1 : asked),
  };
}

/** How far above the median most machines are asked: when nine in ten have come, and earlier where that would be long after most of them. */
const firstZ = ({ sigma }: Duration): number => Math.max(1.15, 1.55 - sigma);

const growing =
  (gapMs: number, scale: number) =>
  (asked: number): number =>
    bounded(gapMs * GAP_GROWTH ** (asked - 1), BOUNDS_MS.gap, scale);

/** When a machine that looks for a shorter time asks; `undefined` for most machines. */
function earlyMs({ came, doubt, earliestMs }: BootTimes, chance: number): number | undefined {
  const isSearch = came.isUpperEnd || doubt > DOUBT_NATS;
  const turn = chance * (isSearch ? SEARCH_EACH : PROBE_EACH);
  if (turn >= 1) return undefined;
  return isSearch ? earliestMs * (0.3 + 0.5 * turn) : atZ(came, turn - 0.5);
}

const bounded = (ms: number, [least, most]: readonly [number, number], scale: number): number =>
  Math.min(most * scale, Math.max(least * scale, ms));
