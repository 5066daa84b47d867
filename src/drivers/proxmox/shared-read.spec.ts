import { describe, expect, it } from 'vitest';
import type { Clock } from '../../ports/clock.js';
import { SharedRead } from './shared-read.js';

function aWorld() {
  let nowMs = 0;
  const clock: Clock = { monotonicMs: () => nowMs, wallMs: () => nowMs, sleep: async () => {} };
  const pending: { resolve: (value: number) => void; reject: (error: Error) => void }[] = [];
  const read = new SharedRead<number>(
    clock,
    () => new Promise((resolve, reject) => pending.push({ resolve, reject })),
  );
  return { read, pending, pass: (ms: number) => (nowMs += ms), signal: new AbortController().signal };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('a shared read', () => {
  it('serves everybody who asks meanwhile, and those who accept its age afterwards', async () => {
    const { read, pending, pass, signal } = aWorld();
    const all = Promise.all([read.get(2_000, signal), read.get(2_000, signal)]);
    pending[0]!.resolve(7);
    expect(await all).toEqual([7, 7]);
    pass(1_999);
    expect(await read.get(2_000, signal)).toBe(7);
    expect(pending).toHaveLength(1);
  });

  it('lets all who need newer data than the read under way share the next one', async () => {
    const { read, pending, pass, signal } = aWorld();
    const old = read.get(0, signal);
    pass(10);
    const fresh = Promise.all([read.get(0, signal), read.get(0, signal), read.get(5, signal)]);
    await turn();
    expect(pending).toHaveLength(1);
    pending[0]!.resolve(1);
    expect(await old).toBe(1);
    await turn();
    expect(pending).toHaveLength(2);
    pending[1]!.resolve(2);
    expect(await fresh).toEqual([2, 2, 2]);
  });

  it('keeps no failure', async () => {
    const { read, pending, signal } = aWorld();
    const failed = read.get(2_000, signal);
    pending[0]!.reject(new Error('down'));
    await expect(failed).rejects.toThrow('down');
    const next = read.get(2_000, signal);
    pending[1]!.resolve(3);
    expect(await next).toBe(3);
  });

  it('goes on for the others when one caller leaves', async () => {
    const { read, pending, signal } = aWorld();
    const leaver = new AbortController();
    const left = read.get(2_000, leaver.signal);
    const stays = read.get(2_000, signal);
    leaver.abort(new Error('cancelled'));
    await expect(left).rejects.toThrow('cancelled');
    pending[0]!.resolve(4);
    expect(await stays).toBe(4);
  });
});
