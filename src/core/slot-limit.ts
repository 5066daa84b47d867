/** What is known of a limit that follows the measured lock wait. Times are Unix milliseconds of the database clock. */
export interface MeasuredLimit {
  readonly limit: number;
  readonly changedAtMs: number;
  /** Why it is what it is, for people. */
  readonly why: string;
  /** Waits for one lock since the last change: how many were looked at, their mean and their variance (ms and ms²). */
  readonly waits: { readonly count: number; readonly meanMs: number; readonly variance: number };
  /** The lowest limit that was too much, and when. */
  readonly tooMuch: { readonly limit: number; readonly atMs: number } | undefined;
}

/** One clone whose task told how long it waited. */
export interface LockWait {
  /** Of one lock of that clone, milliseconds. */
  readonly waitMs: number;
  readonly timedOut: boolean;
  /** When its step got its slots: a clone that began under another limit says nothing about this one. */
  readonly admittedAtMs: number;
}

export interface LimitFrame {
  readonly nowMs: number;
  /** What the site's file says: where it starts. */
  readonly configured: number;
  /** Steps waited for a slot: a limit that nobody reaches is not raised. */
  readonly isShort: boolean;
  /** How fast time passes on the cluster, as against the clock: 1 but for simulated ones. */
  readonly timeScale: number;
}

/** Chosen by measurement: docs/decisions/0010-slots-and-limits.md. */
export const GROW_BELOW_MS = 3_000;
export const SHRINK_ABOVE_MS = 4_000;
/** How long a limit that was too much is not tried again, and how long without a time-out counts as quiet; of the cluster's time. */
export const TRY_AGAIN_MS = 600_000;
/** Fewer waits than this decide nothing, and older ones than this many fade. */
const MIN_WAITS = 4;
const FADING = 32;
/** One time-out is borne after so many waits since the last one; one clone of six tells its wait, so it is one of some fifty clones. */
const WAITS_FOR_A_TIME_OUT = 8;

export const startOf = (configured: number, nowMs: number): MeasuredLimit =>
  changed(configured, nowMs, 'as configured', undefined);

/** From 1 to twice what is configured. */
export const boundsOf = (configured: number): { readonly min: number; readonly max: number } => ({
  min: 1,
  max: configured * 2,
});

/**
 * The limit after what was seen: one less for lock time-outs that are no exception, or when the mean wait is surely above 4 s; one more when it is
 * surely below 3 s (surely = by one standard error). What was too much is tried again after ten minutes at the earliest, so that it does not swing.
 */
export function adjust(at: MeasuredLimit, seen: readonly LockWait[], frame: LimitFrame): MeasuredLimit {
  const { min, max } = boundsOf(frame.configured);
  const within = Math.min(max, Math.max(min, at.limit));
  if (within !== at.limit) return changed(within, frame.nowMs, 'the configured bounds changed', undefined);
  const fresh = seen.filter((one) => one.admittedAtMs >= at.changedAtMs);
  const timeOuts = fresh.filter((one) => one.timedOut).length;
  if (timeOuts > Math.floor(at.waits.count / WAITS_FOR_A_TIME_OUT))
    return lower(at, frame, 'clones gave up waiting for the lock');
  // Counted anew, but not as if nobody had waited.
  if (timeOuts > 0) return { ...at, waits: { ...at.waits, count: 1, variance: 0 } };
  const waits = fresh.reduce(add, at.waits);
  const now = waits === at.waits ? at : { ...at, waits };
  const spread = Math.sqrt(waits.variance / Math.max(1, waits.count));
  const isSure = waits.count >= MIN_WAITS;
  if (isSure && waits.meanMs - spread > SHRINK_ABOVE_MS)
    return lower(now, frame, `clones waited ${seconds(waits.meanMs)} for a lock, above 4 s`);
  if (!frame.isShort || at.limit >= max || isBarred(at, frame)) return now;
  if (isSure && waits.meanMs + spread < GROW_BELOW_MS)
    return raise(now, frame, `clones waited ${seconds(waits.meanMs)} for a lock, below 3 s`);
  // Where nothing tells the waits, quiet brings back what time-outs took, and no more.
  if (
    waits.count === 0 &&
    at.limit < frame.configured &&
    frame.nowMs - at.changedAtMs >= TRY_AGAIN_MS * frame.timeScale
  )
    return raise(now, frame, 'no lock time-out for 10 minutes');
  return now;
}

function isBarred({ tooMuch, limit }: MeasuredLimit, { nowMs, timeScale }: LimitFrame): boolean {
  return (
    tooMuch !== undefined && limit + 1 >= tooMuch.limit && nowMs - tooMuch.atMs < TRY_AGAIN_MS * timeScale
  );
}

const lower = (at: MeasuredLimit, { nowMs }: LimitFrame, why: string): MeasuredLimit =>
  at.limit === 1
    ? { ...at, waits: NONE, changedAtMs: nowMs }
    : changed(at.limit - 1, nowMs, why, { limit: at.limit, atMs: nowMs });

const raise = (at: MeasuredLimit, { nowMs }: LimitFrame, why: string): MeasuredLimit =>
  changed(at.limit + 1, nowMs, why, at.tooMuch);

const NONE = { count: 0, meanMs: 0, variance: 0 } as const;

const changed = (
  limit: number,
  changedAtMs: number,
  why: string,
  tooMuch: MeasuredLimit['tooMuch'],
): MeasuredLimit => ({ limit, changedAtMs, why, waits: NONE, tooMuch });

/** Mean and variance of a series, the last ones weighing more once it is long. */
function add(waits: MeasuredLimit['waits'], { waitMs }: LockWait): MeasuredLimit['waits'] {
  const count = Math.min(waits.count + 1, FADING);
  const step = (waitMs - waits.meanMs) / count;
  const meanMs = waits.meanMs + step;
  const variance =
    count === 1 ? 0 : (1 - 1 / count) * (waits.variance + (waitMs - waits.meanMs) ** 2 / count);
  return { count, meanMs, variance };
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
