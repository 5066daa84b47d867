import { describe, expect, it } from 'vitest';
import { Permits } from './permits.js';

const turn = () => new Promise((resolve) => setImmediate(resolve));
const never = new AbortController().signal;

describe('permits', () => {
  it('let no more than the limit work on one name, first come first served, and do not hinder other names', async () => {
    const permits = new Permits(2);
    const begun: string[] = [];
    const ends = new Map<string, () => void>();
    const work = (node: string, id: string) =>
      permits.with(node, never, () => {
        begun.push(id);
        return new Promise<void>((resolve) => ends.set(id, resolve));
      });
    const all = [
      work('pve1', 'a'),
      work('pve1', 'b'),
      work('pve1', 'c'),
      work('pve1', 'd'),
      work('pve2', 'e'),
    ];
    await turn();
    expect(begun).toEqual(['a', 'b', 'e']);
    ends.get('b')!();
    await turn();
    expect(begun).toEqual(['a', 'b', 'e', 'c']);
    for (const id of ['a', 'c', 'e']) ends.get(id)!();
    await turn();
    ends.get('d')!();
    await Promise.all(all);
  });

  it('give the place of a leaver in the queue to the next, and a failing work its permit back', async () => {
    const permits = new Permits(1);
    let end: () => void = () => undefined;
    const first = permits.with('n', never, () => new Promise<void>((resolve) => (end = resolve)));
    const leaver = new AbortController();
    const left = permits.with('n', leaver.signal, async () => 'never');
    const failing = permits.with('n', never, async () => {
      throw new Error('boom');
    });
    const last = permits.with('n', never, async () => 'last');
    leaver.abort(new Error('gone'));
    await expect(left).rejects.toThrow('gone');
    end();
    await first;
    await expect(failing).rejects.toThrow('boom');
    expect(await last).toBe('last');
  });
});
