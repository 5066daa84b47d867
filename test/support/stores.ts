import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { inject } from 'vitest';
import { startEmbeddedPostgres, type EmbeddedStore } from '../../src/drivers/embedded/embedded-postgres.js';
import { startEmbeddedRedis } from '../../src/drivers/embedded/embedded-redis.js';
import { runMigrations } from '../../src/drivers/postgres/migrations.js';
import { TEMPLATE_DATABASE } from './global-setup.js';

export interface TestDatabase {
  readonly url: string;
  /** Ends what is still connected, too. */
  drop(): Promise<void>;
}

/** An empty, migrated database of one's own (a clone of the template). */
export async function testDatabase(): Promise<TestDatabase> {
  const server = inject('postgresUrl');
  const name = `t_${randomBytes(8).toString('hex')}`;
  await onServer(server, `create database ${name} template ${TEMPLATE_DATABASE}`);
  return {
    url: new URL(`/${name}`, server).href,
    drop: () => onServer(server, `drop database if exists ${name} with (force)`),
  };
}

/** The shared Redis: keep to keys under `redisPrefix()`, and never flush it. */
export function redisUrl(): string {
  return inject('redisUrl');
}

/** A REDIS_PREFIX that nobody else has. */
export function redisPrefix(): string {
  return `{t-${randomBytes(8).toString('hex')}}`;
}

/** A store of one's own for tests that flush, restart or kill it; `restart` keeps address and password. */
export interface OwnStore {
  readonly url: string;
  stop(): Promise<void>;
  /** Starts it again after `stop`, or stops it first: Postgres with its data, Redis empty. */
  restart(): Promise<void>;
  /** Stops it and removes its data. */
  remove(): Promise<void>;
}

export async function ownRedis(): Promise<OwnStore> {
  return await ownStore((folders, url) => {
    const at = url && new URL(url);
    return startEmbeddedRedis({ ...folders, ...(at && { port: Number(at.port), password: at.password }) });
  });
}

/** Migrated. */
export async function ownPostgres(): Promise<OwnStore> {
  const store = await ownEmptyPostgres();
  await runMigrations(store.url);
  return store;
}

/** As a new one is. */
export async function ownEmptyPostgres(): Promise<OwnStore> {
  return ownStore((folders, url) =>
    startEmbeddedPostgres({ ...folders, fsync: false, ...(url && { port: Number(new URL(url).port) }) }),
  );
}

interface Folders {
  readonly stateFolder: string;
  readonly dataFolder: string;
}

async function ownStore(
  start: (folders: Folders, url?: string) => Promise<EmbeddedStore>,
): Promise<OwnStore> {
  const dataFolder = await mkdtemp(join(tmpdir(), 'hatchery-test-'));
  await chmod(dataFolder, 0o711);
  const folders = { stateFolder: inject('stateFolder'), dataFolder };
  let store = await start(folders);
  const { url } = store;
  return {
    url,
    stop: () => store.stop(),
    async restart() {
      await store.stop();
      store = await start(folders, url);
    },
    async remove() {
      await store.stop();
      await rm(dataFolder, { recursive: true, force: true });
    },
  };
}

async function onServer(server: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: server });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
