import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import pg from 'pg';

/** The least that a durable step can cost: one committed UPDATE of one row, `count` times, `inFlight` at once. */
export async function committedUpdates(
  postgresUrl: string,
  { count, inFlight }: { count: number; inFlight: number },
  around: { begin: () => Promise<void>; end: () => Promise<void> },
): Promise<number> {
  // As many connections as the product has.
  const pool = new pg.Pool({ connectionString: postgresUrl, max: Math.min(inFlight, 10) });
  await pool.query(
    'create table if not exists floor (id int primary key, state text not null, epoch int not null)',
  );
  await pool.query('truncate floor');
  await pool.query(`insert into floor select n, 'ready', 0 from generate_series(0, $1 - 1) as n`, [inFlight]);
  await pool.query('vacuum analyze floor');
  await around.begin();
  const from = performance.now();
  let left = count;
  await Promise.all(
    Array.from({ length: inFlight }, async (_, row) => {
      while (left > 0) {
        left -= 1;
        await pool.query(`update floor set state = 'done', epoch = epoch + 1 where id = $1`, [row]);
      }
    }),
  );
  const seconds = (performance.now() - from) / 1000;
  await around.end();
  await pool.end();
  return seconds;
}

/** The least that handing a step to another process can cost: a job added to BullMQ and taken from it; each one that is done adds the next. */
export async function bareHops(
  redisUrl: string,
  { count, inFlight }: { count: number; inFlight: number },
  around: { begin: () => Promise<void>; end: () => Promise<void> },
): Promise<{ seconds: number; hopsMs: readonly number[] }> {
  const connect = (): Redis => new Redis(redisUrl, { maxRetriesPerRequest: null });
  const [producer, consumer] = [connect(), connect()];
  const queue = new Queue<{ at: number }>('floor', { connection: producer, prefix: '{floor}' });
  let left = count;
  let ended = 0;
  const hopsMs: number[] = [];
  const add = async (): Promise<void> => {
    if (left === 0) return;
    left -= 1;
    await queue.add(
      'step',
      { at: performance.now() },
      { attempts: 1, removeOnComplete: true, removeOnFail: true },
    );
  };
  let finish: () => void = () => {};
  const allEnded = new Promise<void>((resolve) => (finish = resolve));
  const worker = new Worker<{ at: number }>(
    'floor',
    async (job) => {
      hopsMs.push(performance.now() - job.data.at);
      ended += 1;
      if (ended === count) finish();
      await add();
    },
    { connection: consumer, prefix: '{floor}', concurrency: inFlight, skipStalledCheck: true },
  );
  await worker.waitUntilReady();
  await around.begin();
  const from = performance.now();
  await Promise.all(Array.from({ length: inFlight }, add));
  await allEnded;
  const seconds = (performance.now() - from) / 1000;
  await around.end();
  await worker.close();
  await queue.close();
  producer.disconnect();
  consumer.disconnect();
  return { seconds, hopsMs };
}
