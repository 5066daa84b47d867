import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { startEmbeddedPostgres } from '../../src/drivers/embedded/embedded-postgres.js';
import { startEmbeddedRedis } from '../../src/drivers/embedded/embedded-redis.js';
import { resolveStateFolder } from '../../src/drivers/embedded/state-folder.js';
import { runMigrations } from '../../src/drivers/postgres/migrations.js';

declare module 'vitest' {
  export interface ProvidedContext {
    readonly postgresUrl: string;
    readonly redisUrl: string;
    /** Where programs that the embedded stores need are kept between runs. */
    readonly stateFolder: string;
  }
}

export const TEMPLATE_DATABASE = 'hatchery_template';

/** One Postgres with a migrated template database and one Redis for all test files of a run. */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const stateFolder = await resolveStateFolder(join(import.meta.dirname, '..', '..', '.hatchery'));
  const dataFolder = await mkdtemp(join(tmpdir(), 'hatchery-test-'));
  // Postgres runs as another user under root and has to enter.
  await chmod(dataFolder, 0o711);
  const log = (line: string) => process.stderr.write(`${line}\n`);
  const [postgres, redis] = await Promise.all([
    startEmbeddedPostgres({ stateFolder, dataFolder, log, fsync: false }),
    startEmbeddedRedis({ stateFolder, dataFolder, log }),
  ]);
  await makeTemplate(postgres.url);
  project.provide('postgresUrl', postgres.url);
  project.provide('redisUrl', redis.url);
  project.provide('stateFolder', stateFolder);
  return async () => {
    await Promise.all([postgres.stop(), redis.stop()]);
    await rm(dataFolder, { recursive: true, force: true });
  };
}

async function makeTemplate(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(`create database ${TEMPLATE_DATABASE}`);
  await client.end();
  await runMigrations(new URL(`/${TEMPLATE_DATABASE}`, url).href);
}
