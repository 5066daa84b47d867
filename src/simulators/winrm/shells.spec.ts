import { describe, expect, it } from 'vitest';
import { Shells } from './shells.js';

describe('an idle shell', () => {
  it('ends, counts for no quota and is found no more, but not while somebody waits for its answer', async () => {
    let nowMs = 0;
    const shells = new Shells(2, 10, () => nowMs);
    const [left, asked] = [shells.open('us', 60_000), shells.open('us', 60_000)];
    let answer = (): void => {};
    const waiting = shells.asked(asked, () => new Promise<void>((resolve) => (answer = resolve)));
    nowMs = 59_999;
    expect(() => shells.open('us')).toThrow();
    nowMs = 60_000;
    shells.open('us');
    expect(() => shells.get(left.id, 'us')).toThrow();
    expect(shells.get(asked.id, 'us')).toBe(asked);
    answer();
    await waiting;
    nowMs = 119_999;
    expect(shells.get(asked.id, 'us')).toBe(asked);
    nowMs = 120_000;
    expect(() => shells.get(asked.id, 'us')).toThrow();
  });
});
