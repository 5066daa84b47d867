import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { connectRedis } from '../../src/drivers/redis/connect-redis.js';
import { RedisLocks } from '../../src/drivers/redis/redis-locks.js';
import { systemClock } from '../../src/drivers/system-clock.js';
import { ownRedis, type OwnStore } from '../support/stores.js';

const LOCK_MS = 1_500;

let store: OwnStore;
let redis: Redis;
let locks: RedisLocks;

beforeAll(async () => {
  store = await ownRedis();
  redis = connectRedis(store.url, () => {}) as Redis;
  locks = new RedisLocks(redis, { prefix: `{${randomUUID()}}`, holder: 'test', lockMs: LOCK_MS });
});
afterAll(async () => {
  redis?.disconnect();
  await store?.remove();
});

/** As after a failover or on a full disk: reads are answered, writes are refused. */
const refuseWrites = async (isRefusing: boolean): Promise<unknown> =>
  redis.config('SET', 'min-replicas-to-write', isRefusing ? '1' : '0');

async function refusals(): Promise<number> {
  return Number(/errorstat_NOREPLICAS:count=(\d+)/.exec(await redis.info('errorstats'))?.[1] ?? 0);
}

it('goes on while Redis refuses to renew a lock for less time than the lock lasts', async () => {
  const held = (await locks.tryHold('short', 'test'))!;
  const before = await refusals();
  await refuseWrites(true);
  while ((await refusals()) === before) await systemClock.sleep(5);
  await refuseWrites(false);
  const [name] = await redis.keys('*short');
  while ((await redis.pttl(name!)) < LOCK_MS * 0.9) await systemClock.sleep(5);
  expect(held.lost.aborted).toBe(false);
  await held.release();
});

it('gives the lock up when Redis refuses to renew it for as long as it lasts', async () => {
  const held = (await locks.tryHold('long', 'test'))!;
  await refuseWrites(true);
  await new Promise((resolve) => held.lost.addEventListener('abort', resolve, { once: true }));
  expect(String(held.lost.reason)).toContain('the lock long was lost');
  await refuseWrites(false);
  expect(await locks.tryHold('long', 'test')).toBeDefined();
});
