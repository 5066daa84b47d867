import { getEventListeners, setMaxListeners } from 'node:events';
import { expect, it, vi } from 'vitest';
import { TimedOut, underSignal } from './under-signal.js';

/** Work that lasts until its signal ends, and gives the reason. */
const ended = (signal: AbortSignal): Promise<unknown> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve(signal.reason);
    else signal.addEventListener('abort', () => resolve(signal.reason), { once: true });
  });
const deaf = (): Promise<never> => new Promise(() => {});

it('ends with any of its sources and gives that one’s reason', async () => {
  const [first, second] = [new AbortController(), new AbortController()];
  const reason = underSignal([first.signal, second.signal], 60_000, ended);
  second.abort('second');
  expect(await reason).toBe('second');
});

it('has ended already when a source had', async () => {
  expect(await underSignal([AbortSignal.abort('before')], 60_000, ended)).toBe('before');
});

it('tells work that failed because of the time from work that failed', async () => {
  const failing = async (signal: AbortSignal): Promise<never> => {
    await ended(signal);
    throw new Error('cut short');
  };
  await expect(underSignal([], 1, failing)).rejects.toMatchObject({
    message: 'it took longer than 0.001 s',
    cause: { message: 'cut short' },
  });
  await expect(underSignal([AbortSignal.abort()], 60_000, failing)).rejects.toThrow('cut short');
});

it('counts the time anew whenever the work moved', async () => {
  vi.useFakeTimers();
  try {
    let moved = (): void => {};
    const result = underSignal([], 1_000, (signal, tell) => {
      moved = tell;
      return ended(signal);
    });
    for (let second = 0; second < 5; second += 1) {
      await vi.advanceTimersByTimeAsync(900);
      moved();
    }
    expect(vi.getTimerCount()).toBe(1);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(await result).toMatchObject({ name: 'TimeoutError' });
  } finally {
    vi.useRealTimers();
  }
});

it('lets go of work that does not notice the end', async () => {
  await expect(underSignal([], 1, deaf, 1)).rejects.toBeInstanceOf(TimedOut);
  await expect(underSignal([AbortSignal.abort('before')], 60_000, deaf, 1)).rejects.toBe('before');
});

it('does not end at once after a time that no timer can count', async () => {
  const stop = new AbortController();
  const reason = underSignal([stop.signal], 2 ** 31, ended);
  await underSignal([], 5, ended);
  stop.abort('stopped');
  expect(await reason).toBe('stopped');
});

it('leaves no listener on a signal that lives on, whether the work succeeds or throws', async () => {
  const worker = new AbortController();
  setMaxListeners(0, worker.signal);
  await Promise.allSettled(
    Array.from({ length: 100 }, (_, index) =>
      underSignal([worker.signal], 60_000, async () => {
        if (index % 2 === 0) throw new Error('no');
      }),
    ),
  );
  expect(getEventListeners(worker.signal, 'abort')).toEqual([]);
});
