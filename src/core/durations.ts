/**
 * When something came, in milliseconds from the start of its step: after `afterMs` (the last look that found nothing; 0 = there was none)
 * and at the latest at `byMs` (the look that found it). Equal = known exactly.
 */
export interface Sighting {
  readonly afterMs: number;
  readonly byMs: number;
}

/** Log-normal. `isUpperEnd`: every look found it at once, so it may come any time before `medianMs`. */
export interface Duration {
  readonly medianMs: number;
  /** Standard deviation of the logarithm. */
  readonly sigma: number;
  readonly count: number;
  readonly isUpperEnd: boolean;
}

/** What was seen this many sightings ago counts half. */
const HALF_LIFE = 60;
/** Two numbers more always fit a little better: only what fits the newest alone better by this much (nats) is a change. */
const CHANGE_NATS = 6;
/** The newest ones that are asked whether they tell of a change, fewest first. */
const NEWEST = [4, 8, 16, 32] as const;
const EM_ROUNDS = 60;
const MIN_SIGMA = 0.03;
/** One sighting's worth of belief that things spread by 15 %. */
const PRIOR_SIGMA = 0.15;

/**
 * The distribution that past sightings (oldest first) tell of; `undefined` for none.
 * A look that finds its thing at once says only "not later": such sightings are weighed as what they are, intervals, by expectation and
 * maximisation, so that late looks do not make the thing look late. When the newest ones tell of another distribution than those before
 * them (a changed template), the older ones are forgotten.
 */
export function durationOf(sightings: readonly Sighting[]): Duration | undefined {
  if (sightings.length === 0) return undefined;
  const seen = sightings.map(({ afterMs, byMs }): Interval => ({
    from: afterMs <= 0 ? -Infinity : Math.log(Math.max(1, afterMs)),
    to: Math.log(Math.max(1, byMs)),
  }));
  const { kept, fit } = sinceChange(seen);
  return {
    medianMs: Math.exp(fit.mean),
    sigma: fit.sigma,
    count: kept.length,
    isUpperEnd: kept.every(isUpperEnd),
  };
}

/** The time by which a share of `z` standard deviations has come: 0 the median, 1.2816 nine in ten, -1.2816 one in ten. */
export const atZ = ({ medianMs, sigma }: Duration, z: number): number => medianMs * Math.exp(sigma * z);

/** The share that has come by then. */
export const shareBefore = ({ medianMs, sigma }: Duration, ms: number): number =>
  normalShare(Math.log(ms / medianMs) / sigma);

/** Mean time still to wait for what has not come after `elapsedMs`. */
export function meanLeftMs(duration: Duration, elapsedMs = 0): number {
  return momentsLeft(duration, elapsedMs).mean;
}

/** Variance (ms squared) of that time. */
export function varianceLeft(duration: Duration, elapsedMs = 0): number {
  return momentsLeft(duration, elapsedMs).variance;
}

function momentsLeft({ medianMs, sigma }: Duration, elapsedMs: number): { mean: number; variance: number } {
  const z = elapsedMs <= 0 ? -Infinity : Math.log(elapsedMs / medianMs) / sigma;
  const late = normalShare(-z);
  // What is later than anything seen so far is as likely to take a tenth more as not.
  if (late < 1e-4) return { mean: elapsedMs * 0.1, variance: (elapsedMs * 0.1) ** 2 };
  const mean = (medianMs * Math.exp(sigma ** 2 / 2) * normalShare(sigma - z)) / late;
  const square = (medianMs ** 2 * Math.exp(2 * sigma ** 2) * normalShare(2 * sigma - z)) / late;
  return { mean: Math.max(0, mean - elapsedMs), variance: Math.max(0, square - mean ** 2) };
}

/** Share of a standard normal distribution below `z` (Abramowitz and Stegun 26.2.17: within 1e-7). */
export function normalShare(z: number): number {
  if (z < 0) return 1 - normalShare(-z);
  if (z === Infinity) return 1;
  const t = 1 / (1 + 0.2316419 * z);
  const tail =
    t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
  return 1 - density(z) * tail;
}

/** Logarithms of milliseconds. */
interface Interval {
  readonly from: number;
  readonly to: number;
}

interface Fit {
  readonly mean: number;
  readonly sigma: number;
}

const isUpperEnd = ({ from }: Interval): boolean => from === -Infinity;

function sinceChange(seen: readonly Interval[]): { kept: readonly Interval[]; fit: Fit } {
  const all = fitTo(seen);
  for (const count of NEWEST) {
    if (seen.length < 2 * count) break;
    const newest = seen.slice(-count);
    const before = likelihood(newest, fitTo(seen.slice(0, -count), all));
    // No distribution makes what was seen likelier than certain.
    if (before > -CHANGE_NATS) continue;
    const fit = fitTo(newest);
    if (likelihood(newest, fit) - before > CHANGE_NATS) return { kept: newest, fit };
  }
  return { kept: seen, fit: all };
}

function fitTo(seen: readonly Interval[], near?: Fit): Fit {
  if (seen.every(isUpperEnd)) return { mean: Math.min(...seen.map(({ to }) => to)), sigma: PRIOR_SIGMA };
  let fit = near ?? roughly(seen);
  for (let round = 0; round < EM_ROUNDS; round += 1) {
    const next = expectAndMaximise(seen, fit);
    const isSettled = Math.abs(next.mean - fit.mean) + Math.abs(next.sigma - fit.sigma) < 1e-3;
    fit = next;
    if (isSettled) break;
  }
  return fit;
}

/** By age in sightings: computed once, the search asks for it thousands of times. */
const weights: number[] = [];
const weightOf = (age: number): number => (weights[age] ??= 0.5 ** (age / HALF_LIFE));

function expectAndMaximise(seen: readonly Interval[], fit: Fit): Fit {
  let [total, sum, squares] = [0, 0, 0];
  for (const [index, one] of seen.entries()) {
    const weight = weightOf(seen.length - 1 - index);
    const { mean, variance } = expectation(one, fit);
    total += weight;
    sum += weight * mean;
    squares += weight * (variance + (mean - fit.mean) ** 2);
  }
  const mean = sum / total;
  const spread = squares - total * (mean - fit.mean) ** 2 + PRIOR_SIGMA ** 2;
  return { mean, sigma: Math.max(MIN_SIGMA, Math.sqrt(spread / (total + 1))) };
}

/** Where the search begins: the middle of what has both ends. */
function roughly(seen: readonly Interval[]): Fit {
  const both = seen.filter((one) => !isUpperEnd(one));
  return { mean: both.reduce((sum, { from, to }) => sum + (from + to) / 2, 0) / both.length, sigma: 0.3 };
}

/** Mean and variance of what lies in an interval of a distribution. */
function expectation({ from, to }: Interval, { mean, sigma }: Fit): { mean: number; variance: number } {
  const [a, b] = [(from - mean) / sigma, (to - mean) / sigma];
  const share = normalShare(b) - normalShare(a);
  if (to - from < 1e-3 * sigma || share < 1e-9)
    return { mean: Math.min(Math.max(mean, from), to), variance: 0 };
  const [below, above] = [density(a), density(b)];
  const shift = (below - above) / share;
  const bend = ((a === -Infinity ? 0 : a * below) - b * above) / share;
  return { mean: mean + sigma * shift, variance: sigma * sigma * Math.max(0, 1 + bend - shift * shift) };
}

/** Nats. What is known exactly counts as an interval of 2 %, so that it is comparable to the others. */
function likelihood(seen: readonly Interval[], { mean, sigma }: Fit): number {
  return seen.reduce((sum, { from, to }) => {
    const [low, high] = to - from < 0.02 ? [to - 0.01, to + 0.01] : [from, to];
    const share = normalShare((high - mean) / sigma) - normalShare((low - mean) / sigma);
    return sum + Math.log(Math.max(1e-9, share));
  }, 0);
}

const density = (z: number): number =>
  Math.abs(z) === Infinity ? 0 : Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI);
