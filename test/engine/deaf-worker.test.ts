import { afterEach, expect, it } from 'vitest';
import { BullStepWorker } from '../../src/drivers/bullmq/bull-dispatch.js';
import { WatchedStepWorker } from '../../src/drivers/bullmq/watched-step-worker.js';
import { connectRedis } from '../../src/drivers/redis/connect-redis.js';
import { systemClock } from '../../src/drivers/system-clock.js';
import { EngineWorker } from '../../src/engine/worker.js';
import { EngineBench } from '../support/engine-bench.js';
import { Outside, use, workflow } from '../support/outside.js';

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

it('a worker that hears nothing though steps wait begins anew, once, and the work is done', async () => {
  const outside = new Outside();
  const bench = await EngineBench.start({
    workflow: workflow(use('one')),
    steps: [outside.step('one')],
    effects: [outside.thing],
  });
  const engine = new EngineWorker(bench.parts);
  await engine.start();
  const opened: BullStepWorker[] = [];
  const watched = new WatchedStepWorker({
    open: (handle) => {
      const worker = new BullStepWorker(
        connectRedis(bench.queue.redisUrl, () => {}),
        {
          prefix: bench.queue.prefix,
          concurrency: 4,
          onError: () => {},
        },
        handle,
      );
      // The first one never hears of anything.
      if (opened.push(worker) === 1) void worker.pause();
      return worker;
    },
    handle: (stepId) => engine.handle(stepId),
    concurrency: 4,
    isWorkWaiting: (forMs) => bench.parts.store.isWorkWaiting(forMs),
    onDeaf: () => {},
    onError: (error) => {
      throw error;
    },
    clock: systemClock,
    deafMs: 1_500,
  });
  closers.push(
    () => bench.close(),
    () => engine.stop(),
    () => watched.close(),
  );
  bench.caretaker();
  const runs = await bench.accept(3);
  await bench.untilAll(runs, 'done');
  expect(outside.made).toHaveLength(3);
  expect(opened).toHaveLength(2);
  // Nobody waits any more, so there is nothing to be deaf for.
  await expect(bench.parts.store.isWorkWaiting(0)).resolves.toBe(false);
});
