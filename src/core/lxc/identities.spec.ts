import { describe, expect, it } from 'vitest';
import { idMappings, identitiesProblem, missingSubids } from './identities.js';

const domain = { from: 600_000_000, count: 999_999_999 };

describe('identities of domain users', () => {
  it('are given where the cluster allows them, whole or in part', () => {
    expect(identitiesProblem([domain], [domain])).toBeUndefined();
    expect(identitiesProblem([{ from: 600_000_100, count: 5 }], [domain])).toBeUndefined();
    const halves = [
      { from: 600_000_000, count: 10 },
      { from: 600_000_010, count: 10 },
    ];
    expect(identitiesProblem([{ from: 600_000_005, count: 10 }], halves)).toBeUndefined();
    expect(identitiesProblem([], [])).toBeUndefined();
  });

  it.each([
    ['root of the node', [{ from: 0, count: 65_536 }], /accounts of the node/],
    ['the last account of the node', [{ from: 99_999, count: 2 }], /accounts of the node/],
    ["every container's own ids", [{ from: 165_535, count: 10 }], /every container's own accounts/],
    ['more ids than there are', [{ from: 600_000_000, count: 4_294_967_295 }], /the highest id/],
    ['no id at all', [{ from: 600_000_000, count: 0 }], /no range/],
    ['half an id', [{ from: 600_000_000, count: 1.5 }], /no range/],
    ['one id twice', [domain, { from: 1_599_999_998, count: 1 }], /overlap/],
    [
      'what the cluster does not allow',
      [{ from: 200_000, count: 10 }],
      /the cluster allows 600000000-1599999998/,
    ],
    ['one id more than allowed', [{ from: 600_000_000, count: 1_000_000_000 }], /the cluster allows/],
  ])('are refused for %s (S34)', (_what, ranges, why) => {
    expect(identitiesProblem(ranges, [domain])).toMatch(why);
  });

  it('leave a container without any to the cluster', () => {
    expect(idMappings([])).toEqual([]);
  });

  it('are missing on a node whose files do not hold all of them', () => {
    const fresh = { start: 100_000, count: 65_536 };
    expect(missingSubids([domain], { uid: [fresh], gid: [] })).toEqual({
      subuid: ['root:600000000:999999999'],
      subgid: ['root:100000:65536', 'root:600000000:999999999'],
    });
    const whole = [fresh, { start: 600_000_000, count: 999_999_999 }];
    expect(missingSubids([domain], { uid: whole, gid: whole })).toEqual({ subuid: [], subgid: [] });
  });
});
