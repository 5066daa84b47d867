import { describe, expect, it } from 'vitest';
import type { Clock } from '../../ports/clock.js';
import { SharedRead } from './shared-read.js';

function setup() {
  let nowMs = 0;
  const clock: Clock = { monotonicMs: () => nowMs, wallMs: () => nowMs, sleep: () => Promise.resolve() };
  const reads: { resolve: (value: number) => void; reject: (error: Error) => void }[] = [];
  const shared = new SharedRead<number>(clock, 500);
  const read = (): Promise<number> => new Promise((resolve, reject) => reads.push({ resolve, reject }));
  const signal = new AbortController().signal;
  return {
    reads,
    shared,
    get: (options: { fresh?: boolean; signal?: AbortSignal } = {}) =>
      shared.get('k', read, { fresh: false, signal, ...options }),
    pass: (ms: number) => {
      nowMs += ms;
    },
  };
}

describe('a shared read', () => {
  it('serves all who ask while it is under way or young', async () => {
    const { get, reads, pass } = setup();
    const both = [get(), get()];
    reads[0]!.resolve(1);
    expect(await Promise.all(both)).toEqual([1, 1]);
    pass(500);
    expect(await get()).toBe(1);
    expect(reads).toHaveLength(1);
  });

  it('is read anew when it is old, when a fresh one is asked for, and after a write', async () => {
    const { get, reads, pass, shared } = setup();
    void get();
    pass(501);
    void get();
    void get({ fresh: true });
    expect(reads).toHaveLength(3);
    shared.forget('k');
    void get();
    expect(reads).toHaveLength(4);
  });

  it('gives later callers the fresh read, also when the earlier one ends after it', async () => {
    const { get, reads } = setup();
    const early = get();
    const fresh = get({ fresh: true });
    reads[1]!.resolve(2);
    reads[0]!.resolve(1);
    expect([await early, await fresh, await get()]).toEqual([1, 2, 2]);
  });

  it('does not keep a failure', async () => {
    const { get, reads } = setup();
    const failing = get();
    reads[0]!.reject(new Error('no'));
    await expect(failing).rejects.toThrow('no');
    const again = get();
    reads[1]!.resolve(2);
    expect(await again).toBe(2);
  });

  it('goes on for the others when one caller gives up', async () => {
    const { get, reads } = setup();
    const cancel = new AbortController();
    const leaving = get({ signal: cancel.signal });
    const staying = get();
    cancel.abort(new Error('gave up'));
    await expect(leaving).rejects.toThrow('gave up');
    reads[0]!.resolve(1);
    expect(await staying).toBe(1);
  });
});
