import { describe, expect, it } from 'vitest';
import { HatcheryError } from '../../core/errors.js';
import type { TaskVerdict } from '../../ports/hypervisor.js';
import { TaskFollower } from './task-follower.js';
import type { TaskRow } from './wire.js';

const upid = (n: number, started = 0x65530000 + n): string =>
  `UPID:pve1:${n.toString(16).toUpperCase().padStart(8, '0')}:000F4240:${started.toString(16).toUpperCase()}:qmclone:9000:u@pve!t:`;

/** A node whose tasks and clock a test moves by hand. */
function aNode() {
  const rows = new Map<string, TaskRow>();
  const alone = new Map<string, TaskVerdict | Error>();
  const lists: number[] = [];
  const troubles: string[] = [];
  const asked: string[] = [];
  const looked: string[] = [];
  let failure: Error | undefined;
  let nowMs = 0;
  let wake: (() => void) | undefined;
  const follower = new TaskFollower({
    tickMs: 1_000,
    patienceMs: 5_000,
    clock: {
      monotonicMs: () => nowMs,
      wallMs: () => 0,
      sleep: (_, signal) =>
        new Promise((resolve, reject) => {
          wake = resolve;
          signal?.addEventListener('abort', () => reject(signal.reason as Error));
        }),
    },
    list: async (sinceS) => {
      lists.push(sinceS);
      if (failure) throw failure;
      return [...rows.values()];
    },
    verdict: async (id) => {
      asked.push(id);
      const answer = alone.get(id);
      if (answer instanceof Error) throw answer;
      return answer;
    },
    progress: async (id, from = 0) => {
      looked.push(id);
      return { percent: from + 10, next: from + 10 };
    },
    onTrouble: (error) => troubles.push(error.message),
  });
  const tick = async (times = 1): Promise<void> => {
    for (let n = 0; n < times; n += 1) {
      nowMs += 1_000;
      wake?.();
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  const running = (id: string): void => void rows.set(id, { upid: id, status: 'RUNNING' });
  const end = (id: string, status: string): void => void rows.set(id, { upid: id, status, endtime: 1 });
  return {
    follower,
    rows,
    alone,
    lists,
    troubles,
    asked,
    looked,
    tick,
    running,
    end,
    fail: (error?: Error) => (failure = error),
  };
}

const never = new AbortController().signal;

describe('following tasks', () => {
  it('asks once per tick for all callers, from the start of the oldest, and stops with the last', async () => {
    const node = aNode();
    const tasks = [upid(5), upid(3), upid(9)];
    for (const id of tasks) node.running(id);
    const all = tasks.flatMap((id) => [
      node.follower.follow(id, never, undefined),
      node.follower.follow(id, never, undefined),
    ]);
    await node.tick(2);
    expect(node.lists).toEqual([0x65530003, 0x65530003]);
    for (const id of tasks) node.end(id, 'OK');
    await node.tick();
    expect(await Promise.all(all)).toEqual(all.map(() => ({ verdict: 'ok', warnings: 0 })));
    await node.tick(3);
    expect(node.lists).toHaveLength(3);
  });

  it('asks a task by itself only when several lists do not show it', async () => {
    const node = aNode();
    const verdict = node.follower.follow(upid(1), never, undefined);
    node.alone.set(upid(1), { verdict: 'unknown', text: 'no such task' });
    await node.tick(2);
    expect(node.asked).toEqual([]);
    await node.tick();
    expect(await verdict).toEqual({ verdict: 'unknown', text: 'no such task' });
  });

  it('asks a task by itself that has ended in the list without a verdict', async () => {
    const node = aNode();
    node.rows.set(upid(1), { upid: upid(1), endtime: 1 });
    const verdict = node.follower.follow(upid(1), never, undefined);
    await node.tick();
    expect(node.asked).toEqual([upid(1)]);
    node.alone.set(upid(1), { verdict: 'ok', warnings: 0 });
    await node.tick();
    expect(await verdict).toEqual({ verdict: 'ok', warnings: 0 });
  });

  it('ends only the one caller whose task cannot be asked for', async () => {
    const node = aNode();
    node.running(upid(2));
    const bad = node.follower.follow(upid(1), never, undefined);
    const good = node.follower.follow(upid(2), never, undefined);
    node.alone.set(upid(1), new HatcheryError('remote-refused', 'Unable to read: bad upid'));
    const failed = bad.catch((error: Error) => error.message);
    await node.tick(3);
    expect(await failed).toContain('bad upid');
    node.end(upid(2), 'OK');
    await node.tick();
    expect(await good).toMatchObject({ verdict: 'ok' });
  });

  it('goes on while the node is away, and says so once', async () => {
    const node = aNode();
    node.running(upid(1));
    const verdict = node.follower.follow(upid(1), never, undefined);
    node.fail(new HatcheryError('cluster-unreachable', 'Unable to list: down', { retry: 'later' }));
    await node.tick(4);
    expect(node.troubles).toEqual(['Unable to list: down']);
    node.fail();
    node.end(upid(1), 'WARNINGS: 2');
    await node.tick();
    expect(await verdict).toEqual({ verdict: 'ok', warnings: 2 });
  });

  it('tells those who wait for a node that stays away, when its patience is over', async () => {
    const node = aNode();
    node.running(upid(1));
    const verdict = node.follower.follow(upid(1), never, undefined);
    node.fail(new HatcheryError('cluster-unreachable', 'Unable to list: down', { retry: 'later' }));
    const failed = verdict.catch((error: HatcheryError) => error.code);
    await node.tick(6);
    expect(await failed).toBe('cluster-unreachable');
    node.fail();
    node.end(upid(1), 'OK');
    const next = node.follower.follow(upid(1), never, undefined);
    await node.tick();
    expect(await next).toMatchObject({ verdict: 'ok' });
  });

  it('ends everybody on an error that no waiting cures, and begins anew for the next', async () => {
    const node = aNode();
    const verdict = node.follower.follow(upid(1), never, undefined);
    node.fail(new HatcheryError('permission-missing', 'Unable to list: 403', { retry: 'after-fix' }));
    const failed = verdict.catch((error: HatcheryError) => error.code);
    await node.tick();
    expect(await failed).toBe('permission-missing');
    node.fail();
    node.end(upid(1), 'OK');
    const next = node.follower.follow(upid(1), never, undefined);
    await node.tick();
    expect(await next).toMatchObject({ verdict: 'ok' });
  });

  it('lets one caller leave without hurting the others', async () => {
    const node = aNode();
    node.running(upid(1));
    const leaver = new AbortController();
    const left = node.follower.follow(upid(1), leaver.signal, undefined);
    const stays = node.follower.follow(upid(1), never, undefined);
    leaver.abort(new Error('cancelled'));
    await expect(left).rejects.toThrow('cancelled');
    node.end(upid(1), 'OK');
    await node.tick();
    expect(await stays).toMatchObject({ verdict: 'ok' });
  });

  it('tells percentages every few ticks, rising, to those who asked', async () => {
    const node = aNode();
    node.running(upid(1));
    const seen: (number | undefined)[] = [];
    const verdict = node.follower.follow(upid(1), never, ({ percent }) => seen.push(percent));
    void node.follower.follow(upid(1), never, undefined);
    await node.tick(7);
    expect(seen).toEqual([10, 20]);
    node.end(upid(1), 'OK');
    await node.tick();
    await verdict;
  });

  it('looks into a few logs at a time, into fewer while their ends must be found, and into each in turn', async () => {
    const node = aNode();
    const ids = [1, 2, 3, 4, 5].map((n) => upid(n));
    for (const id of ids) {
      node.running(id);
      void node.follower.follow(id, never, () => undefined);
    }
    const looks: string[][] = [];
    for (let round = 0; round < 5; round += 1) {
      await node.tick(3);
      looks.push(node.looked.splice(0));
    }
    const [a, b, c, d, e] = ids;
    expect(looks).toEqual([
      [a, b],
      [c, d],
      [e, a, b],
      [c, d, e, a],
      [b, c, d, e],
    ]);
  });
});
