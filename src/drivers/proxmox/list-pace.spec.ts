import { describe, expect, it } from 'vitest';
import { ListPace } from './list-pace.js';

/** Reads whenever it may; gives the moments. */
function readingAlways(pace: ListPace, fromMs: number, untilMs: number): number[] {
  const moments: number[] = [];
  for (let now = pace.earliestMs(fromMs); now <= untilMs; now = pace.earliestMs(now)) {
    moments.push(now);
    pace.noteList(now);
  }
  return moments;
}

describe('the pace of lists', () => {
  it('lets a few follow each other quickly, and then one in a while', () => {
    const moments = readingAlways(new ListPace({ quick: 1_000, steady: 4_000 }), 0, 30_000);
    const gaps = moments.slice(1).map((now, index) => now - moments[index]!);
    expect(gaps.slice(0, 4)).toEqual([1_000, 1_000, 1_000, 1_000]);
    expect(gaps.slice(5).every((gap) => gap === 4_000)).toBe(true);
  });

  it('is quick again after a pause', () => {
    const pace = new ListPace({ quick: 1_000, steady: 4_000 });
    readingAlways(pace, 0, 60_000);
    const moments = readingAlways(pace, 100_000, 103_000);
    expect(moments).toEqual([100_000, 101_000, 102_000, 103_000]);
  });
});
