import { Worker } from 'bullmq';
import { afterEach, expect, it } from 'vitest';
import { STEP_QUEUE } from '../../src/drivers/bullmq/bull-dispatch.js';
import { connectRedis } from '../../src/drivers/redis/connect-redis.js';
import { EngineBench, Gate } from '../support/engine-bench.js';
import { Outside, use, workflow } from '../support/outside.js';

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

/** What a queue does about a job without its lock: it hands it out again, and fails it when that was too often. Our workers are told not to look. */
class StalledCheck {
  readonly #worker: Worker;
  readonly #redis: ReturnType<typeof connectRedis>;
  #told = (): void => undefined;

  constructor({ queue }: EngineBench, maxStalledCount: number) {
    this.#redis = connectRedis(queue.redisUrl, () => {});
    this.#worker = new Worker(STEP_QUEUE, undefined, {
      connection: this.#redis,
      prefix: queue.prefix,
      autorun: false,
      stalledInterval: 50,
      maxStalledCount,
    });
    this.#worker.on('error', () => {});
    this.#worker.on('stalled', () => this.#told());
    closers.push(async () => {
      await this.#worker.close();
      this.#redis.disconnect();
    });
  }

  async start(): Promise<void> {
    await this.#worker.startStalledCheckTimer();
  }

  /** The job has no lock any more, and the queue notices. */
  async stall(job: string): Promise<void> {
    const told = new Promise<void>((resolve) => (this.#told = resolve));
    await this.#redis.del(`${this.#worker.opts.prefix}:${STEP_QUEUE}:${job}:lock`);
    await told;
  }
}

it.each([
  ['hands out again', 1],
  ['fails, because that was too often', 0],
])(
  'a stalled job that the queue %s ends nothing. Its attempt goes on, and no other one begins',
  async (_how, often) => {
    const outside = new Outside();
    const gate = new Gate();
    const one = outside.step('one');
    const bench = await EngineBench.start({
      workflow: workflow(use('one') + use('two', ['one'])),
      steps: [
        {
          ...one,
          act: async (input, ports, run) => {
            await gate.pass();
            return one.act(input, ports, run);
          },
        },
        outside.step('two'),
      ],
      effects: [outside.thing],
    });
    closers.push(async () => {
      gate.release();
      await bench.close();
    });
    const check = new StalledCheck(bench, often);
    await check.start();
    await bench.worker();
    bench.caretaker();
    const runs = await bench.accept(1);
    await gate.reached;
    const { id, dispatch } = (
      await bench.database.query<{ id: string; dispatch: number }>(
        `select id, dispatch from steps where run_id = $1 and key = 'one'`,
        [runs[0]!.runId],
      )
    )[0]!;
    await check.stall(`${id}-${dispatch}`);
    gate.release();
    await bench.untilAll(runs, 'done');
    expect(outside.made).toHaveLength(2);
    await expect(
      bench.database.query(`select epoch from steps where run_id = $1 order by key`, [runs[0]!.runId]),
    ).resolves.toEqual([{ epoch: 1 }, { epoch: 1 }]);
  },
);
