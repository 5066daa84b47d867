import { describe, expect, it } from 'vitest';
import type { Duration } from './durations.js';
import { lastOf, meanOf, timesLeft, type StepAhead, type WorkAhead } from './remaining.js';

const about = (ms: number, sigma = 0.05): Duration => ({ medianMs: ms, sigma, count: 20, isUpperEnd: false });
const aStep = (more: Partial<StepAhead> = {}): StepAhead => ({
  needs: [],
  slots: [],
  rank: 1,
  duration: about(1_000),
  ...more,
});
const one = (machine: string, steps: readonly StepAhead[], owner = 'prof'): WorkAhead => ({
  machine,
  owner,
  steps,
});
/** A clone under a slot, then a boot beside the others. */
const aClass = (count: number, owner = 'prof'): WorkAhead[] =>
  Array.from({ length: count }, (_, nth) =>
    one(
      `${owner}${nth}`,
      [aStep({ slots: ['clones'], rank: 2 }), aStep({ needs: [0], duration: about(20_000) })],
      owner,
    ),
  );
const secondsOf = (work: readonly WorkAhead[], limit = 4): ReadonlyMap<string, number> =>
  new Map([...timesLeft(work, () => limit)].map(([machine, time]) => [machine, meanOf(time!) / 1_000]));

describe('the time that work still takes', () => {
  it('is the longest way through the steps of one machine', () => {
    const steps = [
      aStep(),
      aStep({ needs: [0], duration: about(5_000) }),
      aStep({ needs: [0], duration: about(2_000) }),
      aStep({ needs: [1, 2] }),
    ];
    expect(secondsOf([one('a', steps)]).get('a')).toBeCloseTo(7, 0);
  });

  it('counts what a step at work has done already, and never promises the past', () => {
    const boot = { duration: about(20_000) };
    expect(secondsOf([one('a', [aStep({ ...boot, sinceMs: 15_000 })])]).get('a')).toBeCloseTo(5, 0);
    expect(secondsOf([one('a', [aStep({ ...boot, sinceMs: 60_000 })])]).get('a')).toBeGreaterThan(0);
    expect(secondsOf([one('a', [aStep({ notBeforeMs: 3_000 })])]).get('a')).toBeCloseTo(4, 0);
  });

  it('waits in the line for a slot: the first machine one way, the last one behind all others', () => {
    const times = secondsOf(aClass(40));
    expect(times.get('prof0')).toBeCloseTo(21, 0);
    expect(times.get('prof39')).toBeCloseTo(30, 0);
    expect(secondsOf(aClass(40), 1).get('prof39')).toBeCloseTo(60, 0);
  });

  it('knows that slots are held by what is at work', () => {
    const busy = one('busy', [aStep({ slots: ['clones'], duration: about(10_000), sinceMs: 0 })]);
    const next = one('next', [aStep({ slots: ['clones'] })]);
    expect(secondsOf([busy, next], 1).get('next')).toBeCloseTo(11, 0);
  });

  it('gives one machine of another owner its fair share beside a class', () => {
    const times = secondsOf([...aClass(200), ...aClass(1, 'member')]);
    expect(times.get('member0')).toBeLessThan(23);
    const halves = secondsOf([...aClass(60, 'a'), ...aClass(60, 'b')]);
    expect(Math.abs(halves.get('a59')! - halves.get('b59')!)).toBeLessThan(1.5);
  });

  it('is unknown for a machine with a step of which nothing is known, and for no other', () => {
    const times = timesLeft([one('a', [aStep({ duration: undefined })]), one('b', [aStep()])], () => 1);
    expect(times.get('a')).toBeUndefined();
    expect(meanOf(times.get('b')!)).toBeGreaterThan(0);
  });

  it('of the last of many is later than of the mean one where boots spread', () => {
    const boots = (sigma: number): number => {
      const work = Array.from({ length: 100 }, (_, nth) =>
        one(`m${nth}`, [aStep({ duration: about(20_000, sigma) })]),
      );
      return lastOf([...timesLeft(work, () => 1).values()].map((time) => time!)) / 1_000;
    };
    expect(boots(0.03)).toBeLessThan(22);
    // Of 100 draws of such a distribution the largest is as often above as below 2.46 standard deviations.
    expect(boots(0.4)).toBeCloseTo(20 * Math.exp(0.4 * 2.46), 0);
    expect(lastOf([])).toBe(0);
  });
});
