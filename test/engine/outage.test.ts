import { afterEach, describe, expect, it } from 'vitest';
import { connectRedis } from '../../src/drivers/redis/connect-redis.js';
import type { StepRun } from '../../src/plan/step.js';
import type { RunStore } from '../../src/ports/run-store.js';
import { StoreUnavailable } from '../../src/ports/store-unavailable.js';
import { EngineBench, Gate } from '../support/engine-bench.js';
import { Outside, use, workflow } from '../support/outside.js';
import { ownPostgres, ownRedis } from '../support/stores.js';

let bench: EngineBench | undefined;
afterEach(async () => {
  await bench?.close();
  bench = undefined;
});

const away = (): never => {
  throw new StoreUnavailable('it is away', undefined);
};

/** A store whose changes break as long as it is told to, before anything is done or with the answer lost. */
class Breaking {
  left = 0;
  at: 'before' | 'after' = 'before';

  readonly over = (store: RunStore): RunStore =>
    new Proxy(store, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name);
        if (typeof member !== 'function') return member;
        const call = (...values: unknown[]): unknown => Reflect.apply(member, target, values);
        return name === 'change' || name === 'changeInHand'
          ? async (...values: unknown[]) => this.#change(() => call(...values))
          : call;
      },
    });

  async #change(call: () => unknown): Promise<unknown> {
    if (this.left === 0) return call();
    this.left -= 1;
    if (this.at === 'after') await call();
    return away();
  }
}

const outcomes = async (): Promise<unknown[]> =>
  (await bench!.database.query('select outcome from attempts order by epoch')).map((row) => row['outcome']);

describe('while Postgres is away', () => {
  it('an outcome is kept until it can be written: nothing is done twice, and no try is lost', async () => {
    const breaking = new Breaking();
    const outside = new Outside();
    const step = outside.step('one', {
      act: async ({ machine }) => {
        outside.made.push(machine.id);
        breaking.left = 3;
        return {};
      },
    });
    bench = await EngineBench.start({
      workflow: workflow(use('one')),
      steps: [step],
      effects: [outside.thing],
      store: breaking.over,
    });
    const runs = await bench.accept(1);
    await bench.worker();
    bench.caretaker();
    await bench.untilAll(runs, 'done');
    expect(outside.made).toHaveLength(1);
    expect(await outcomes()).toEqual(['done']);
  });

  it('a claim whose answer was lost is given back by the worker that does not know of it', async () => {
    const breaking = new Breaking();
    breaking.at = 'after';
    breaking.left = 1;
    const outside = new Outside();
    bench = await EngineBench.start({
      workflow: workflow(use('one')),
      steps: [outside.step('one')],
      effects: [outside.thing],
      store: breaking.over,
    });
    const runs = await bench.accept(1);
    await bench.worker();
    bench.caretaker();
    await bench.untilAll(runs, 'done');
    expect(outside.made).toHaveLength(1);
    expect(await outcomes()).toEqual(['lost', 'done']);
  });

  it('a restart under running workers loses time only', async () => {
    const postgres = await ownPostgres();
    const outside = new Outside();
    const gates = Array.from({ length: 3 }, () => new Gate());
    const step = outside.step('one', {
      act: async ({ machine }) => {
        outside.made.push(machine.id);
        await gates[outside.made.length - 1]?.pass();
        return {};
      },
    });
    bench = await EngineBench.start({
      workflow: workflow(use('one') + use('two', ['one'])),
      steps: [step, outside.step('two')],
      effects: [outside.thing],
      postgres: postgres.url,
    });
    try {
      const runs = await bench.accept(6);
      await bench.worker(4);
      await bench.worker(4);
      bench.caretaker();
      await Promise.all(gates.map((gate) => gate.reached));
      const restarted = postgres.restart();
      for (const gate of gates) gate.release();
      await restarted;
      await bench.untilAll(runs, 'done');
      expect(new Set(outside.things).size).toBe(6);
    } finally {
      await bench.close();
      bench = undefined;
      await postgres.remove();
    }
  });
});

describe('while Redis is away', () => {
  it('machines are accepted, what is in hand goes on, and all is done when it is back, empty', async () => {
    const redis = await ownRedis();
    const outside = new Outside();
    const gate = new Gate();
    const step = outside.step('one', {
      retry: { attempts: 1, first: '50ms', max: '50ms' },
      act: async ({ machine }) => {
        outside.made.push(machine.id);
        await gate.pass();
        return {};
      },
    });
    bench = await EngineBench.start({
      workflow: workflow(use('one') + use('two', ['one'])),
      steps: [step, outside.step('two', { slots: () => ['clones@x'] })],
      effects: [outside.thing],
      redis: redis.url,
    });
    try {
      const before = await bench.accept(3);
      await bench.worker();
      bench.caretaker();
      await gate.reached;
      await redis.stop();
      const during = await bench.accept(3);
      gate.release();
      await redis.restart();
      await bench.untilAll([...before, ...during], 'done');
    } finally {
      await bench.close();
      bench = undefined;
      await redis.remove();
    }
  });

  it('FLUSHALL interrupts what is in hand, which is not one of its tries, and all is done', async () => {
    const redis = await ownRedis();
    const outside = new Outside();
    let started = 0;
    const gate = new Gate();
    const step = outside.step('one', {
      retry: { attempts: 1, first: '50ms', max: '50ms' },
      act: async (_input: unknown, _ports: unknown, run: StepRun) => {
        const { signal } = run.call;
        started += 1;
        if (started > 2) return {};
        if (started === 2) void gate.pass();
        return new Promise<object>((_resolve, reject) =>
          signal.addEventListener('abort', () => reject(signal.reason as Error)),
        );
      },
    });
    bench = await EngineBench.start({
      workflow: workflow(use('one') + use('two', ['one'])),
      steps: [step, outside.step('two')],
      effects: [outside.thing],
      redis: redis.url,
    });
    try {
      const runs = await bench.accept(6);
      await bench.worker(2);
      bench.caretaker();
      await gate.reached;
      const other = connectRedis(redis.url, () => {});
      await other.flushall();
      other.disconnect();
      await bench.untilAll(runs, 'done');
      const [interrupted] = await bench.database.query(
        `select count(*) as count from attempts where outcome = 'handed-over'`,
      );
      expect(interrupted).toEqual({ count: 2 });
    } finally {
      await bench.close();
      bench = undefined;
      await redis.remove();
    }
  });

  it('a process that has to stop does, and gives back what it had', async () => {
    const redis = await ownRedis();
    const outside = new Outside();
    const gate = new Gate();
    const step = outside.step('one', {
      act: async (_input: unknown, _ports: unknown, run: { call: { signal: AbortSignal } }) => {
        const ended = new Promise((_, reject) =>
          run.call.signal.addEventListener('abort', () => reject(run.call.signal.reason as Error)),
        );
        void gate.pass();
        return (await ended) as object;
      },
    });
    bench = await EngineBench.start({
      workflow: workflow(use('one') + use('two')),
      steps: [step, outside.step('two', { slots: () => ['clones@x'] })],
      effects: [outside.thing],
      redis: redis.url,
    });
    try {
      await bench.accept(3);
      const worker = await bench.worker(2);
      const caretaker = bench.caretaker();
      await gate.reached;
      await redis.stop();
      await bench.accept(3);
      await worker.stop();
      await caretaker.stop();
      await bench.until('select count(*) = 0 as ok from steps where worker_id is not null');
    } finally {
      await bench.close();
      bench = undefined;
      await redis.remove();
    }
  });
});

it('a process that stood still beyond its lease writes nothing more', async () => {
  const outside = new Outside();
  const writes: number[] = [];
  const step = outside.step('one', {
    act: async (_input: unknown, _ports: unknown, run: StepRun) => {
      if (run.attempt === 1) for (const endMs = performance.now() + 450; performance.now() < endMs;);
      run.call.beforeSend();
      writes.push(run.attempt);
      return {};
    },
  });
  bench = await EngineBench.start({
    workflow: workflow(use('one')),
    steps: [step],
    effects: [outside.thing],
    times: { leaseMs: 400, heartbeatMs: 100 },
  });
  const runs = await bench.accept(1);
  await bench.worker();
  bench.caretaker();
  await bench.untilAll(runs, 'done');
  expect(writes).not.toContain(1);
  expect(writes).toHaveLength(1);
});
