import { describe, expect, it } from 'vitest';
import { countVmids, freeVmids } from './vmids.js';

describe('VMIDs of a range', () => {
  it('are given lowest first, without the used ones', () => {
    expect(freeVmids({ from: 10_000, to: 10_009 }, new Set([10_000, 10_002]), 3)).toEqual([
      10_001, 10_003, 10_004,
    ]);
  });

  it('are fewer than asked when the range has no more', () => {
    expect(freeVmids({ from: 100, to: 101 }, new Set([100]), 5)).toEqual([101]);
  });

  it('include both ends', () => {
    expect(freeVmids({ from: 100, to: 101 }, new Set(), 5)).toEqual([100, 101]);
  });

  it('are counted as free, used and resting, foreign ids outside the range left out', () => {
    expect(countVmids({ from: 100, to: 109 }, new Set([99, 100, 101, 102]), new Set([102, 103, 200]))).toEqual({
      total: 10, free: 6, used: 2, resting: 2,
    }); // prettier-ignore
  });
});
