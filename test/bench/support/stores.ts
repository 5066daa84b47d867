import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { startEmbeddedPostgres } from '../../../src/drivers/embedded/embedded-postgres.js';
import { startEmbeddedRedis } from '../../../src/drivers/embedded/embedded-redis.js';
import { resolveStateFolder } from '../../../src/drivers/embedded/state-folder.js';
import { runMigrations } from '../../../src/drivers/postgres/migrations.js';
import { cpuSecondsOfTree } from './cpu.js';

export interface BenchStores {
  /** Migrated, and durable: commits wait for the disk. */
  readonly postgresUrl: string;
  readonly redisUrl: string;
  /** Used so far. */
  cpuSeconds(): Promise<{ readonly postgres: number; readonly redis: number }>;
  close(): Promise<void>;
}

/** A Postgres and a Redis of this benchmark's own, in a temporary folder. */
export async function benchStores(): Promise<BenchStores> {
  const stateFolder = await resolveStateFolder(join(process.cwd(), '.hatchery'));
  const dataFolder = await mkdtemp(join(tmpdir(), 'hatchery-bench-'));
  // Postgres runs as another user under root and has to enter.
  await chmod(dataFolder, 0o711);
  const [postgres, redis] = await Promise.all([
    startEmbeddedPostgres({ stateFolder, dataFolder }),
    startEmbeddedRedis({ stateFolder, dataFolder }),
  ]);
  await runMigrations(postgres.url);
  return {
    postgresUrl: postgres.url,
    redisUrl: redis.url,
    async cpuSeconds() {
      const [postmaster, server] = await Promise.all([postmasterPid(dataFolder), redisPid(redis.url)]);
      const [ofPostgres, ofRedis] = await Promise.all([
        cpuSecondsOfTree(postmaster),
        cpuSecondsOfTree(server),
      ]);
      return { postgres: ofPostgres, redis: ofRedis };
    },
    async close() {
      await Promise.all([postgres.stop(), redis.stop()]);
      await rm(dataFolder, { recursive: true, force: true });
    },
  };
}

/** The first line of the file that Postgres itself keeps. */
async function postmasterPid(dataFolder: string): Promise<number> {
  return Number.parseInt(await readFile(join(dataFolder, 'postgres', 'postmaster.pid'), 'utf8'), 10);
}

async function redisPid(url: string): Promise<number> {
  const client = new Redis(url);
  try {
    return Number(/process_id:([0-9]+)/.exec(await client.info('server'))?.[1]);
  } finally {
    client.disconnect();
  }
}
