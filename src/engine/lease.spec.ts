import { expect, it } from 'vitest';
import type { Clock } from '../ports/clock.js';
import type { Pulse, RunStore } from '../ports/run-store.js';
import { WorkerLease } from './lease.js';

/** Time passes only when the test says so. */
class HandClock implements Clock {
  #nowMs = 1_000;
  #sleepers: { untilMs: number; wake: () => void }[] = [];

  monotonicMs = (): number => this.#nowMs;
  wallMs = (): number => this.#nowMs;
  sleep = (ms: number, signal?: AbortSignal): Promise<void> =>
    new Promise((resolve, reject) => {
      const stop = (): void => reject(signal?.reason as Error);
      const wake = (): void => (signal?.removeEventListener('abort', stop), resolve());
      signal?.addEventListener('abort', stop);
      this.#sleepers.push({ untilMs: this.#nowMs + ms, wake });
    });

  /** In small steps, with time for everybody to act in between. */
  async pass(ms: number): Promise<void> {
    for (const endMs = this.#nowMs + ms; this.#nowMs < endMs;) {
      this.#nowMs += 100;
      const due = this.#sleepers.filter((sleeper) => sleeper.untilMs <= this.#nowMs);
      this.#sleepers = this.#sleepers.filter((sleeper) => sleeper.untilMs > this.#nowMs);
      for (const { wake } of due) wake();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

type Answer = 'held' | 'dead' | 'away' | 'silent';

async function started() {
  const clock = new HandClock();
  const at = {
    answer: 'held' as Answer,
    isDraining: false,
    drains: 0,
    registered: [] as string[],
    lost: [] as string[],
  };
  const store = {
    registerWorker: async ({ id }: { id: string }) => void at.registered.push(id),
    heartbeat: (): Promise<Pulse | undefined> => {
      if (at.answer === 'silent') return new Promise(() => {});
      if (at.answer === 'away') return Promise.reject(new Error('away'));
      return Promise.resolve(at.answer === 'held' ? { held: [], isDraining: at.isDraining } : undefined);
    },
    stopWorker: async () => {},
  } as unknown as RunStore;
  const lease = new WorkerLease(
    store,
    clock,
    [],
    { leaseMs: 6_000, heartbeatMs: 2_000 },
    {
      onLost: (why) => at.lost.push(why),
      onHeld: () => {},
      onDrain: () => void (at.drains += 1),
    },
  );
  await lease.start();
  return { clock, at, lease };
}

it('holds as long as its heartbeats are answered', async () => {
  const { clock, lease } = await started();
  const term = lease.signal;
  await clock.pass(60_000);
  expect(lease.isHeld).toBe(true);
  expect(term.aborted).toBe(false);
});

it.each<Answer>(['silent', 'away'])(
  'ends its term when its time is over and Postgres is %s',
  async (answer) => {
    const { clock, at, lease } = await started();
    await clock.pass(1_000);
    at.answer = answer;
    const term = lease.signal;
    await clock.pass(4_900);
    expect(term.aborted).toBe(false);
    await clock.pass(200);
    expect(term.aborted).toBe(true);
    expect(() => lease.assertHeld()).toThrow('the worker’s lease is over');
  },
);

it('begins a new term under its own name when Postgres is back and nobody declared it dead', async () => {
  const { clock, at, lease } = await started();
  const { workerId } = lease;
  at.answer = 'away';
  await clock.pass(10_000);
  at.answer = 'held';
  await clock.pass(1_000);
  expect(lease.isHeld).toBe(true);
  expect(lease.signal.aborted).toBe(false);
  expect(lease.workerId).toBe(workerId);
});

it('begins again under a new name when it was declared dead', async () => {
  const { clock, at, lease } = await started();
  const [first, term] = [lease.workerId, lease.signal];
  at.answer = 'dead';
  await clock.pass(2_000);
  at.answer = 'held';
  expect(term.aborted).toBe(true);
  expect(lease.workerId).not.toBe(first);
  expect(at.registered).toEqual([first, lease.workerId]);
  expect(lease.isHeld).toBe(true);
});

it('takes nothing new while it hands over, however often its heart beats', async () => {
  const { clock, lease } = await started();
  lease.handOver();
  await clock.pass(10_000);
  expect(lease.isHeld).toBe(true);
  expect(lease.signal.aborted).toBe(true);
  expect(lease.isEnding).toBe(true);
});

it('tells once that a person asks for its end', async () => {
  const { clock, at, lease } = await started();
  at.isDraining = true;
  await clock.pass(10_000);
  expect(at.drains).toBe(1);
  expect(lease.isHeld).toBe(true);
});
