import { atZ, type Duration } from './durations.js';

/** Between looks at something that is not likely to be over: people see it move. */
const STEADY_MS = 20_000;
const DEFAULT_FIRST_MS = 15_000;
const DEFAULT_GAP_MS = 3_000;
const GAP_BOUNDS_MS = [3_000, 10_000] as const;
const GAP_GROWTH = 1.15;
/** Fewer say nothing. */
const ENOUGH = 3;
/** Looks are frequent from when about a fifth has come; they are this many until nine in ten have. */
const EARLY_Z = -0.8;
const LOOKS = 8;

/**
 * Milliseconds until the next look at something of which many are read at once, so that a look costs little: now and then, and often from when past
 * ones say that it may be over. `looked`: how often it was looked at so far, the start of the wait included; `scale`: of the time of the remote side.
 */
export function nextLookMs(came: Duration | undefined, looked: number, scale: number): number {
  const known = came !== undefined && came.count >= ENOUGH ? came : undefined;
  const firstMs = known === undefined ? DEFAULT_FIRST_MS * scale : earliestMs(known);
  const steadyMs = STEADY_MS * scale;
  const steadyLooks = Math.floor(firstMs / steadyMs);
  if (looked <= steadyLooks) return steadyMs;
  const gapMs = known === undefined ? DEFAULT_GAP_MS * scale : gapOf(known, scale);
  const often = looked - steadyLooks - 1;
  if (often === 0) return Math.max(gapMs, firstMs - steadyLooks * steadyMs);
  return Math.min(steadyMs, gapMs * GAP_GROWTH ** (often - 1));
}

/** Where every look found it at once, it may come at any time before. */
const earliestMs = (came: Duration): number => (came.isUpperEnd ? came.medianMs / 2 : atZ(came, EARLY_Z));

function gapOf(came: Duration, scale: number): number {
  const [least, most] = GAP_BOUNDS_MS;
  const spreadMs = atZ(came, 1.2816) - atZ(came, -1.2816);
  return Math.min(most * scale, Math.max(least * scale, spreadMs / LOOKS));
}
