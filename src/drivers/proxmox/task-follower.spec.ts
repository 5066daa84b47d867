import { describe, expect, it } from 'vitest';
import { HatcheryError } from '../../core/errors.js';
import type { Clock } from '../../ports/clock.js';
import type { TaskVerdict } from '../../ports/hypervisor.js';
import { TaskDurations } from './task-durations.js';
import { TaskFollower } from './task-follower.js';
import { parseUpid } from './upid.js';
import type { TaskRow } from './wire.js';

const BASE_S = 0x65530000;
const upid = (n: number, type = 'qmclone', started = BASE_S + n): string =>
  `UPID:pve1:${n.toString(16).toUpperCase().padStart(8, '0')}:000F4240:${started.toString(16).toUpperCase()}:${type}:9000:u@pve!t:`;

/** A clock that a test moves by hand. */
class HandClock implements Clock {
  nowMs = 0;
  #sleepers: { atMs: number; wake: () => void }[] = [];

  monotonicMs = (): number => this.nowMs;
  wallMs = (): number => 0;

  sleep = (ms: number, signal?: AbortSignal): Promise<void> =>
    new Promise((resolve, reject) => {
      const sleeper = { atMs: this.nowMs + ms, wake: resolve };
      this.#sleepers.push(sleeper);
      signal?.addEventListener('abort', () => {
        this.#sleepers = this.#sleepers.filter((one) => one !== sleeper);
        reject(signal.reason as Error);
      });
    });

  async advance(ms: number): Promise<void> {
    const until = this.nowMs + ms;
    await settled();
    for (;;) {
      const [next] = this.#sleepers.toSorted((a, b) => a.atMs - b.atMs);
      if (next === undefined || next.atMs > until) break;
      this.#sleepers = this.#sleepers.filter((one) => one !== next);
      this.nowMs = Math.max(this.nowMs, next.atMs);
      next.wake();
      await settled();
    }
    this.nowMs = until;
  }
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** What one process tells reaches all others; a turn is held until it ends. */
class Fellows {
  readonly #listeners: ((message: unknown) => void)[] = [];
  #isTaken = false;
  isDeaf = false;

  of(): ConstructorParameters<typeof TaskFollower>[0]['fellows'] {
    let self: (message: unknown) => void = () => undefined;
    return {
      hear: (listener) => void this.#listeners.push((self = listener)),
      tell: (message) => {
        const copy: unknown = JSON.parse(JSON.stringify(message));
        if (!this.isDeaf) for (const one of this.#listeners) if (one !== self) one(copy);
      },
      takeTurn: async () => {
        if (this.#isTaken && !this.isDeaf) return undefined;
        this.#isTaken = true;
        return { end: () => (this.#isTaken = false) };
      },
    };
  }

  /** A process dies over its turn. */
  loseTurn(): void {
    this.#isTaken = true;
  }
  expireTurn(): void {
    this.#isTaken = false;
  }
}

/** A node whose tasks and clock a test moves by hand. */
function aNode() {
  const clock = new HandClock();
  const rows = new Map<string, TaskRow>();
  const alone = new Map<string, TaskVerdict | Error>();
  /** When, and from which second on, each list was read. */
  const lists: { atMs: number; sinceS: number }[] = [];
  const troubles: string[] = [];
  const asked: string[] = [];
  const looked: string[] = [];
  const fellows = new Fellows();
  let failure: Error | undefined;
  const aFollower = (): TaskFollower =>
    new TaskFollower({
      clock,
      paceMs: { quick: 1_000, steady: 3_500 },
      durations: new TaskDurations(1),
      kindOf: (id) => (id.includes(':qmclone:') ? 'linked qmclone' : parseUpid(id)!.type),
      isOurs: (id) => id.includes(':u@pve!t:'),
      fellows: fellows.of(),
      patienceMs: 5_000,
      marginS: 0,
      list: async (sinceS) => {
        lists.push({ atMs: clock.nowMs, sinceS });
        if (failure) throw failure;
        return [...rows.values()].filter((row) => (parseUpid(row.upid)?.startedAtS ?? 0) >= sinceS);
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
  const running = (id: string): void => void rows.set(id, { upid: id, status: 'RUNNING' });
  const end = (id: string, status: string): void => void rows.set(id, { upid: id, status, endtime: 1 });
  return {
    follower: aFollower(),
    aFollower,
    fellows,
    clock,
    rows,
    alone,
    lists,
    troubles,
    asked,
    looked,
    running,
    end,
    seconds: (count: number) => clock.advance(count * 1_000),
    /** Runs a task of this type to its end after so long. */
    async runs(follower: TaskFollower, id: string, forMs: number): Promise<void> {
      running(id);
      const verdict = follower.follow(id, never, undefined);
      await clock.advance(forMs);
      end(id, 'OK');
      await clock.advance(20_000);
      await verdict;
    },
    fail: (error?: Error) => (failure = error),
  };
}

const never = new AbortController().signal;
const OK = { verdict: 'ok', warnings: 0 };

describe('following tasks', () => {
  it('reads one list for all callers, from the start of the oldest, and stops with the last', async () => {
    const node = aNode();
    const tasks = [upid(5), upid(3), upid(9)];
    for (const id of tasks) node.running(id);
    const all = tasks.flatMap((id) => [
      node.follower.follow(id, never, undefined),
      node.follower.follow(id, never, undefined),
    ]);
    await node.seconds(3);
    expect(node.lists.map(({ sinceS }) => sinceS)).toEqual([BASE_S + 3, BASE_S + 3]);
    for (const id of tasks) node.end(id, 'OK');
    await node.seconds(1);
    expect(await Promise.all(all)).toMatchObject(all.map(() => OK));
    await node.seconds(60);
    expect(node.lists).toHaveLength(3);
  });

  it('asks a task by itself only when several lists do not show it', async () => {
    const node = aNode();
    const verdict = node.follower.follow(upid(1), never, undefined);
    node.alone.set(upid(1), { verdict: 'unknown', text: 'no such task' });
    await node.seconds(3);
    expect(node.asked).toEqual([]);
    await node.seconds(2);
    expect(await verdict).toEqual({ verdict: 'unknown', text: 'no such task' });
  });

  it('asks a task by itself that has ended in the list without a verdict', async () => {
    const node = aNode();
    node.rows.set(upid(1), { upid: upid(1), endtime: 1 });
    const verdict = node.follower.follow(upid(1), never, undefined);
    await node.seconds(2);
    expect(node.asked).toEqual([upid(1)]);
    node.alone.set(upid(1), { verdict: 'ok', warnings: 0 });
    await node.seconds(1);
    expect(await verdict).toEqual(OK);
  });

  it('ends only the one caller whose task cannot be asked for', async () => {
    const node = aNode();
    node.running(upid(2));
    const bad = node.follower.follow(upid(1), never, undefined);
    const good = node.follower.follow(upid(2), never, undefined);
    node.alone.set(upid(1), new HatcheryError('remote-refused', 'Unable to read: bad upid'));
    const failed = bad.catch((error: Error) => error.message);
    await node.seconds(5);
    expect(await failed).toContain('bad upid');
    node.end(upid(2), 'OK');
    await node.seconds(5);
    expect(await good).toMatchObject({ verdict: 'ok' });
  });

  it('goes on while the node is away, and says so once', async () => {
    const node = aNode();
    node.running(upid(1));
    const verdict = node.follower.follow(upid(1), never, undefined);
    node.fail(new HatcheryError('cluster-unreachable', 'Unable to list: down', { retry: 'later' }));
    await node.seconds(5);
    expect(node.troubles).toEqual(['Unable to list: down']);
    node.fail();
    node.end(upid(1), 'WARNINGS: 2');
    await node.seconds(4);
    expect(await verdict).toMatchObject({ verdict: 'ok', warnings: 2 });
  });

  it('tells those who wait for a node that stays away, when its patience is over', async () => {
    const node = aNode();
    node.running(upid(1));
    const verdict = node.follower.follow(upid(1), never, undefined);
    node.fail(new HatcheryError('cluster-unreachable', 'Unable to list: down', { retry: 'later' }));
    const failed = verdict.catch((error: HatcheryError) => error.code);
    await node.seconds(12);
    expect(await failed).toBe('cluster-unreachable');
    node.fail();
    node.end(upid(1), 'OK');
    const next = node.follower.follow(upid(1), never, undefined);
    await node.seconds(4);
    expect(await next).toMatchObject({ verdict: 'ok' });
  });

  it('ends everybody on an error that no waiting cures, and begins anew for the next', async () => {
    const node = aNode();
    const verdict = node.follower.follow(upid(1), never, undefined);
    node.fail(new HatcheryError('permission-missing', 'Unable to list: 403', { retry: 'after-fix' }));
    const failed = verdict.catch((error: HatcheryError) => error.code);
    await node.seconds(2);
    expect(await failed).toBe('permission-missing');
    node.fail();
    node.end(upid(1), 'OK');
    const next = node.follower.follow(upid(1), never, undefined);
    await node.seconds(2);
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
    await node.seconds(2);
    expect(await stays).toMatchObject({ verdict: 'ok' });
  });
});

describe('when the list is read', () => {
  it('first when the task is expected to be over, then soon, then the rarer the longer it runs', async () => {
    const node = aNode();
    node.running(upid(1));
    void node.follower.follow(upid(1), never, undefined);
    await node.seconds(120);
    const [first, second, ...later] = node.lists.map(({ atMs }) => atMs);
    expect([first, second]).toEqual([2_000, 3_000]);
    const gaps = later.map((atMs, index) => atMs - (later[index - 1] ?? second!));
    expect(gaps).toEqual(gaps.toSorted((a, b) => a - b));
    expect(gaps.at(-1)).toBe(10_000);
  });

  it('learns how long tasks of a kind take here, each kind by itself', async () => {
    const node = aNode();
    for (let n = 1; n <= 12; n += 1) await node.runs(node.follower, upid(n), 5_000);
    node.lists.length = 0;
    const [beganMs, slow, quick] = [node.clock.nowMs, upid(90), upid(91, 'qmstart')];
    for (const id of [slow, quick]) {
      node.running(id);
      void node.follower.follow(id, never, undefined);
    }
    await node.seconds(3);
    expect(node.lists.map(({ atMs }) => atMs - beganMs)).toEqual([2_800]);
    node.end(quick, 'OK');
    await node.seconds(1);
    node.lists.length = 0;
    node.end(slow, 'OK');
    await node.seconds(3);
    expect(node.lists).toHaveLength(1);
  });

  it('a few times in a row for a few tasks, and in the long run not more often than the pace allows, for any number', async () => {
    const node = aNode();
    const verdicts: Promise<TaskVerdict>[] = [];
    for (let second = 0; second < 350; second += 1) {
      const id = upid(second + 1, 'qmstart');
      node.running(id);
      verdicts.push(node.follower.follow(id, never, undefined));
      if (second >= 3) node.end(upid(second - 2, 'qmstart'), 'OK');
      await node.seconds(1);
    }
    expect(node.lists.length).toBeLessThanOrEqual(350 / 3.5 + 5);
    const gaps = node.lists.slice(1).map(({ atMs }, index) => atMs - node.lists[index]!.atMs);
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(1_000);
    await Promise.all(verdicts.slice(0, 300));
  });
});

describe('two processes that follow tasks of one node', () => {
  it('read each list once, and both learn from it', async () => {
    const node = aNode();
    const [here, there] = [node.follower, node.aFollower()];
    const [a, b] = [upid(1), upid(2)];
    for (const id of [a, b]) node.running(id);
    const both = [here.follow(a, never, undefined), there.follow(b, never, undefined)];
    await node.seconds(8);
    const gaps = node.lists.slice(1).map(({ atMs }, index) => atMs - node.lists[index]!.atMs);
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(1_000);
    for (const id of [a, b]) node.end(id, 'OK');
    const before = node.lists.length;
    await node.seconds(20);
    expect(await Promise.all(both)).toMatchObject([OK, OK]);
    // A list that began with the younger task says nothing about the older one.
    expect(node.lists.length - before).toBeLessThanOrEqual(2);
  });

  it('wait for the one whose turn it is, and read for themselves when it died over it', async () => {
    const node = aNode();
    node.end(upid(1), 'OK');
    const verdict = node.follower.follow(upid(1), never, undefined);
    node.fellows.loseTurn();
    await node.seconds(10);
    expect(node.lists).toEqual([]);
    node.fellows.expireTurn();
    await node.seconds(1);
    expect(await verdict).toMatchObject(OK);
  });

  it('each read for themselves when nobody can tell them of each other', async () => {
    const node = aNode();
    node.fellows.isDeaf = true;
    const [here, there] = [node.follower, node.aFollower()];
    for (const id of [upid(1), upid(2)]) node.end(id, 'OK');
    const both = [here.follow(upid(1), never, undefined), there.follow(upid(2), never, undefined)];
    await node.seconds(3);
    expect(await Promise.all(both)).toMatchObject([OK, OK]);
    expect(node.lists).toHaveLength(2);
  });

  it('tell each other of their own tasks only, and take no news for more than it is', async () => {
    const node = aNode();
    const heard: unknown[] = [];
    const fellow = node.fellows.of();
    fellow.hear((message) => heard.push(message));
    node.running(upid(1));
    node.end('UPID:pve1:00000009:000F4240:65530009:qmstart:9000:alice@pve:', 'OK');
    const verdict = node.follower.follow(upid(1), never, undefined);
    await node.seconds(2);
    expect(heard).toEqual([{ sinceS: BASE_S + 1, rows: [{ upid: upid(1), status: 'RUNNING' }] }]);
    for (const nonsense of [null, 'x', { rows: [] }, { sinceS: 1, rows: [{ upid: 3 }] }])
      fellow.tell(nonsense);
    fellow.tell({ sinceS: BASE_S + 2, rows: [] });
    fellow.tell({ sinceS: 0, rows: [{ upid: upid(1), status: 'OK', endtime: 5 }] });
    expect(await verdict).toMatchObject(OK);
  });
});

describe('telling percentages', () => {
  it('every few seconds, rising, to those who asked', async () => {
    const node = aNode();
    node.running(upid(1));
    const seen: (number | undefined)[] = [];
    const verdict = node.follower.follow(upid(1), never, ({ percent }) => seen.push(percent));
    void node.follower.follow(upid(1), never, undefined);
    await node.seconds(7);
    expect(seen).toEqual([10, 20]);
    node.end(upid(1), 'OK');
    await node.seconds(10);
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
      await node.seconds(3);
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
