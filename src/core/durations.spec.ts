import { describe, expect, it } from 'vitest';
import { atZ, durationOf, meanLeftMs, shareBefore, type Sighting } from './durations.js';

const exactly = (...times: readonly number[]): Sighting[] => times.map((ms) => ({ afterMs: ms, byMs: ms }));
const evenly = (count: number, fromMs: number, toMs: number): Sighting[] =>
  exactly(
    ...Array.from(
      { length: count },
      (_, nth) => fromMs + ((nth * 7) % count) * ((toMs - fromMs) / (count - 1)),
    ),
  );

describe('a duration learned from the past', () => {
  it('is nothing without a past, and the past itself when it was always the same', () => {
    expect(durationOf([])).toBeUndefined();
    expect(durationOf(exactly(2_000))!.medianMs).toBeCloseTo(2_000, 0);
  });

  it('has the median and the spread of what was seen', () => {
    const duration = durationOf(evenly(64, 900, 1_100))!;
    expect(duration.medianMs).toBeCloseTo(1_000, -2);
    expect(atZ(duration, 1.2816)).toBeGreaterThan(1_060);
    expect(atZ(duration, 1.2816)).toBeLessThan(1_110);
    expect(shareBefore(duration, duration.medianMs)).toBeCloseTo(0.5, 6);
  });

  it('is not carried away by one that took ten times as long', () => {
    const one = exactly(10_000);
    const duration = durationOf([...evenly(32, 900, 1_100), ...one, ...evenly(32, 900, 1_100)])!;
    expect(duration.medianMs).toBeLessThan(1_100);
  });

  it('does not take the time of a look for the time of what it found', () => {
    const early = Array.from({ length: 16 }, (): Sighting[] => [
      { afterMs: 0, byMs: 1_500 },
      { afterMs: 0, byMs: 1_500 },
      { afterMs: 0, byMs: 1_000 },
      { afterMs: 1_000, byMs: 1_500 },
    ]).flat();
    const duration = durationOf(early)!;
    expect(duration.medianMs).toBeLessThan(1_150);
    expect(duration.isUpperEnd).toBe(false);
    expect(durationOf(early.slice(0, 3))).toMatchObject({
      isUpperEnd: true,
      medianMs: expect.closeTo(1_000) as number,
    });
  });

  it('forgets what was before a change', () => {
    const changed = durationOf([...evenly(64, 900, 1_100), ...evenly(16, 2_900, 3_100)])!;
    expect(changed.medianMs).toBeGreaterThan(2_800);
    expect(changed.count).toBeLessThanOrEqual(16);
  });

  it('tells the time that is left, less and less until it is over the usual, and never none', () => {
    const duration = durationOf(evenly(64, 900, 1_100))!;
    expect(meanLeftMs(duration)).toBeCloseTo(1_000, -2);
    expect(meanLeftMs(duration, 600)).toBeCloseTo(400, -2);
    expect(meanLeftMs(duration, 1_050)).toBeLessThan(100);
    expect(meanLeftMs(duration, 5_000)).toBeGreaterThan(0);
  });
});
