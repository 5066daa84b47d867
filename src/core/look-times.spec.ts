import { describe, expect, it } from 'vitest';
import type { Duration } from './durations.js';
import { nextLookMs } from './look-times.js';

const came = (medianMs: number, more: Partial<Duration> = {}): Duration => ({
  medianMs,
  sigma: 0.2,
  count: 30,
  isUpperEnd: false,
  ...more,
});

/** Moments of the first looks after the start of the wait, in seconds. */
function looks(known: Duration | undefined, count: number, scale = 1): number[] {
  let atMs = 0;
  return Array.from({ length: count }, (_, index) => {
    atMs += nextLookMs(known, index + 1, scale);
    return Math.round(atMs / 100) / 10;
  });
}

describe('looks at something that many are asked about at once', () => {
  it('are few until it may be over, and often then', () => {
    expect(looks(came(60_000), 7)).toEqual([20, 40, 51.1, 55, 59.5, 64.6, 70.5]);
  });

  it('never stop, and become rare again when it takes longer than ever', () => {
    const late = looks(came(60_000), 40);
    expect(late.at(-1)! - late.at(-2)!).toBe(20);
  });

  it('begin early where every look so far found it at once', () => {
    expect(looks(came(60_000, { isUpperEnd: true }), 2)).toEqual([20, 30]);
  });

  it('do not rely on a few', () => {
    expect(looks(came(600_000, { count: 2 }), 4)).toEqual(looks(undefined, 4));
    expect(looks(undefined, 4)).toEqual([15, 18, 21.5, 25.4]);
  });

  it('are scaled as the remote side is', () => {
    expect(looks(came(6_000), 3, 0.1)).toEqual([2, 4, 5.1]);
  });
});
