import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectRedis } from '../../src/drivers/redis/connect-redis.js';
import { RedisLocks } from '../../src/drivers/redis/redis-locks.js';
import { RedisWakeUps } from '../../src/drivers/redis/redis-wake-ups.js';
import { systemClock } from '../../src/drivers/system-clock.js';
import { checkJournal } from '../../src/simulators/journal/check.js';
import { EventClient } from '../support/event-client.js';
import { adminToken, postClass, startRoles, type RoleProcess } from '../support/processes.js';
import { clusterIs, startRedisCluster, startRedisSentinel } from '../support/redis-groups.js';
import { simulatedSite, type SimulatedSite } from '../support/simulated-site.js';
import { redisPrefix, testDatabase, type TestDatabase } from '../support/stores.js';

const CLASS = 2;
const LOCK_MS = 2_000;

/** An API and two workers, each a process, on a group of Redis servers. */
class Deployment {
  private constructor(
    readonly site: SimulatedSite,
    private readonly database: TestDatabase,
    private readonly roles: readonly RoleProcess[],
    private readonly api: { url: string; token: string },
  ) {}

  static async start(redisUrl: string, prefix: string): Promise<Deployment> {
    const [site, database] = await Promise.all([simulatedSite(), testDatabase()]);
    const shared = { databaseUrl: database.url, redisUrl, redisPrefix: prefix, site };
    const roles = await startRoles(shared, ['api', 'worker', 'worker']);
    const url = roles[0]!.url!;
    return new Deployment(site, database, roles, { url, token: await adminToken(url) });
  }

  /** A class whose clones stand still at the cluster while `meanwhile` runs; resolves when every machine is ready. */
  async makeClass(name: string, meanwhile: () => Promise<void>): Promise<void> {
    const { holds } = this.site.simulators.context;
    holds.hold('qemu.clone', 'before');
    expect((await postClass(this.api, name, CLASS)).status).toBe(202);
    const watcher = await EventClient.open(
      `${this.api.url}/api/v1/batches/${name}/events?after=0`,
      this.api.token,
    );
    await holds.reached('qemu.clone', 'before');
    try {
      await meanwhile();
    } finally {
      holds.release('qemu.clone', 'before');
    }
    await watcher.until(({ type, state }) => type === 'batch.progress' && state !== 'working');
    await watcher.leave();
    expect(watcher.events.at(-1)!.state).toBe('ready');
  }

  /** Each machine was made once, and nothing else was touched. */
  async expectCleanJournal(machines: number): Promise<void> {
    const verdict = await checkJournal(this.site.simulators.context.journal.file);
    expect(verdict.findings).toEqual([]);
    const client = new pg.Client(this.database.url);
    await client.connect();
    const { rows } = await client.query(`select count(*)::int as ready from machines where state = 'ready'`);
    await client.end();
    expect(rows).toEqual([{ ready: machines }]);
    const clones = this.site.simulators.context.journal
      .read()
      .filter(({ event, op, effect }) => event === 'task-end' && op === 'qemu.clone' && effect === true);
    expect(clones).toHaveLength(machines);
  }

  /** `/health/ready` answers so. */
  async until(status: number): Promise<void> {
    for (const endsAt = performance.now() + 60_000; ; await systemClock.sleep(50)) {
      const answer = await fetch(`${this.api.url}/health/ready`);
      if (answer.status === status) return;
      if (performance.now() > endsAt) throw new Error(`${answer.status}: ${await answer.text()}`);
    }
  }

  async board(): Promise<string[]> {
    const answer = await fetch(`${this.api.url}/queues/api/queues`, {
      headers: { authorization: `Bearer ${this.api.token}` },
    });
    return ((await answer.json()) as { queues: { name: string }[] }).queues.map(({ name }) => name);
  }

  async stop(): Promise<void> {
    await Promise.all(this.roles.map((role) => role.stop()));
    await this.site.stop();
    await this.database.drop();
  }
}

/** Two processes as far as Redis sees: locks keep each other out, wake-ups reach the other side. */
async function together(url: string, prefix: string, meanwhile: () => Promise<void>): Promise<void> {
  const errors: Error[] = [];
  const [one, two] = [connectRedis(url, (error) => errors.push(error)), connectRedis(url, () => {})];
  const locks = [one, two].map(
    (redis, index) => new RedisLocks(redis, { prefix, holder: `process ${index}`, lockMs: LOCK_MS }),
  );
  const [speaks, hears] = [one, two].map((redis) => new RedisWakeUps(redis, prefix, () => {}));
  await Promise.all([speaks!.start(), hears!.start()]);
  const rings = async (): Promise<void> => {
    const rung = new Promise<void>((resolve) => void hears!.on('work', resolve));
    // Said again until it is heard: a listener that has just moved to another server misses what was said meanwhile.
    const ring = setInterval(() => speaks!.notify('work'), 50);
    await rung;
    clearInterval(ring);
  };
  const keepOut = async (): Promise<void> => {
    const { signal } = new AbortController();
    const names = ['guest:main/10001', 'dhcp:dhcp', 'node {odd}'];
    await locks[0]!.with(names, { why: 'the test', waitMs: 5_000, signal }, async () => {
      expect((await locks[1]!.held()).map(({ name }) => name).sort()).toEqual([...names].sort());
      expect(await locks[1]!.tryHold(names[2]!, 'the other')).toBeUndefined();
    });
    const free = await locks[1]!.tryHold(names[0]!, 'the other');
    expect(free).toBeDefined();
    await free!.release();
  };
  await rings();
  await keepOut();
  await meanwhile();
  await keepOut();
  await rings();
  await Promise.all([speaks!.stop(), hears!.stop()]);
  one.disconnect();
  two.disconnect();
}

describe('Redis Cluster of three masters', () => {
  const prefix = redisPrefix();
  let cluster: Awaited<ReturnType<typeof startRedisCluster>>;

  beforeAll(async () => {
    cluster = await startRedisCluster();
  });
  afterAll(async () => {
    await cluster?.stop();
  });

  /** The master of our keys ends and comes back without them. */
  const loseKeys = async (whileGone: () => Promise<void> = async () => {}): Promise<void> => {
    const owner = await cluster.ownerOf(prefix);
    const other = cluster.servers.find((server) => server !== owner)!;
    await owner.kill();
    await clusterIs(other.client, 'fail');
    await whileGone();
    await owner.start();
    await clusterIs(other.client, 'ok');
  };

  it('carries locks and wake-ups, also after a master was lost', async () => {
    await together(cluster.url, prefix, loseKeys);
  });

  it('makes a class, and losing the master of every key of ours costs time only', async () => {
    const deployment = await Deployment.start(cluster.url, prefix);
    try {
      await deployment.until(200);
      expect(await deployment.board()).toEqual(['steps']);
      await deployment.makeClass('lost', () => loseKeys(() => deployment.until(503)));
      await deployment.until(200);
      await deployment.expectCleanJournal(CLASS);
    } finally {
      await deployment.stop();
    }
  });
});

describe('Redis Sentinel over a master and a replica', () => {
  const prefix = redisPrefix();
  let group: Awaited<ReturnType<typeof startRedisSentinel>>;

  beforeAll(async () => {
    group = await startRedisSentinel();
  });
  afterAll(async () => {
    await group?.stop();
  });

  it('carries locks and wake-ups, also after a failover', async () => {
    await together(group.url, prefix, () => group.failover());
  });

  it('makes a class through a failover, and through a master that hangs without a word', async () => {
    const deployment = await Deployment.start(group.url, prefix);
    try {
      await deployment.makeClass('failover', () => group.failover());
      await deployment.makeClass('hang', async () => {
        const hanging = await group.master();
        hanging.freeze();
        await group.replaced(hanging);
      });
      await deployment.until(200);
      expect(await deployment.board()).toEqual(['steps']);
      await deployment.expectCleanJournal(2 * CLASS);
    } finally {
      await deployment.stop();
    }
  });
});
