import { chmod, mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEmbeddedPostgres } from '../../../src/drivers/embedded/embedded-postgres.js';
import { startEmbeddedRedis } from '../../../src/drivers/embedded/embedded-redis.js';
import { resolveStateFolder } from '../../../src/drivers/embedded/state-folder.js';
import { runMigrations } from '../../../src/drivers/postgres/migrations.js';

export interface BenchStores {
  /** Migrated, and durable: commits wait for the disk. */
  readonly postgresUrl: string;
  readonly redisUrl: string;
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
    async close() {
      await Promise.all([postgres.stop(), redis.stop()]);
      await rm(dataFolder, { recursive: true, force: true });
    },
  };
}

/** CPU seconds (user and system) that the processes whose command line matches have used so far, their ended children included. */
export async function cpuSecondsOf(matches: (command: string) => boolean): Promise<number> {
  const ticksPerSecond = 100;
  let ticks = 0;
  for (const entry of await readdir('/proc')) {
    if (!/^[0-9]+$/.test(entry)) continue;
    try {
      const command = (await readFile(`/proc/${entry}/cmdline`, 'utf8')).replaceAll('\0', ' ');
      if (!matches(command)) continue;
      const stat = await readFile(`/proc/${entry}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      for (const field of fields.slice(11, 15)) ticks += Number(field);
    } catch {
      // It ended while we looked.
    }
  }
  return ticks / ticksPerSecond;
}
