import { describe, expect, it } from 'vitest';
import { SimRandom } from './seed.js';

describe('seeded randomness', () => {
  const draws = (random: SimRandom, ...key: string[]): number[] => {
    const stream = random.stream(...key);
    return [stream.next(), stream.next(), stream.next()];
  };

  it('gives an operation on a guest the same numbers whatever ran before', () => {
    const busy = new SimRandom('7');
    draws(busy, 'clone', '101');
    expect(draws(busy, 'clone', '102')).toEqual(draws(new SimRandom('7'), 'clone', '102'));
  });

  it('gives the second time of the same operation, and another seed, other numbers', () => {
    const random = new SimRandom('7');
    const first = draws(random, 'clone', '101');
    expect(draws(random, 'clone', '101')).not.toEqual(first);
    expect(draws(new SimRandom('8'), 'clone', '101')).not.toEqual(first);
  });

  it('draws durations around the median with the tail that was asked for', () => {
    const stream = new SimRandom('7').stream('durations');
    const values = Array.from({ length: 4000 }, () => stream.logNormal(100, 300)).sort((a, b) => a - b);
    expect(values[2000]).toBeGreaterThan(93);
    expect(values[2000]).toBeLessThan(107);
    expect(values[3800]).toBeGreaterThan(260);
    expect(values[3800]).toBeLessThan(340);
  });

  it('makes UUIDs of version 4', () => {
    expect(new SimRandom('7').stream('uuid').uuid()).toMatch(
      /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
    );
  });
});
