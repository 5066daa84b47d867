import { describe, expect, it } from 'vitest';
import { ShellLimit } from './shell-limit.js';

describe('the limit of shells', () => {
  const never = new AbortController().signal;

  function place(limit: ShellLimit, name: string, log: string[], signal = never) {
    let leave: () => void = () => undefined;
    const open = new Promise<void>((resolve) => {
      leave = resolve;
    });
    const done = limit.with(signal, async () => {
      log.push(name);
      await open;
    });
    return { done, leave };
  }
  const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

  it('lets in as many as it says, and the next in order of arrival', async () => {
    const limit = new ShellLimit(2);
    const log: string[] = [];
    const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((name) => place(limit, name, log)) as [
      ReturnType<typeof place>,
      ReturnType<typeof place>,
      ReturnType<typeof place>,
      ReturnType<typeof place>,
    ];
    await settle();
    expect(log).toEqual(['a', 'b']);
    b.leave();
    await b.done;
    await settle();
    expect(log).toEqual(['a', 'b', 'c']);
    for (const one of [a, c, d]) one.leave();
    await Promise.all([a.done, c.done, d.done]);
    expect(log).toEqual(['a', 'b', 'c', 'd']);
  });

  it('forgets who gave up waiting', async () => {
    const limit = new ShellLimit(1);
    const log: string[] = [];
    const first = place(limit, 'first', log);
    const cancel = new AbortController();
    const second = place(limit, 'second', log, cancel.signal);
    const third = place(limit, 'third', log);
    cancel.abort(new Error('gave up'));
    await expect(second.done).rejects.toThrow('gave up');
    first.leave();
    third.leave();
    await Promise.all([first.done, third.done]);
    expect(log).toEqual(['first', 'third']);
  });

  it('gives the place back when the work fails', async () => {
    const limit = new ShellLimit(1);
    await expect(limit.with(never, () => Promise.reject(new Error('broke')))).rejects.toThrow('broke');
    expect(await limit.with(never, () => Promise.resolve(1))).toBe(1);
  });
});
