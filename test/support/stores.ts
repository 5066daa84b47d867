import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { inject } from 'vitest';
import { runMigrations } from '../../src/drivers/postgres/migrations.js';
import { TEMPLATE_DATABASE } from './global-setup.js';
import { ownEmptyPostgresIn, ownRedisIn, type OwnStore } from './own-store.js';

export interface TestDatabase {
  readonly url: string;
  /** Ends what is still connected, too. */
  drop(): Promise<void>;
}

/** An empty, migrated database of one's own (a clone of the template). */
export async function testDatabase(): Promise<TestDatabase> {
  return databaseLike(TEMPLATE_DATABASE);
}

/** As it is now, as a dump of it would be; nobody may be connected to it. */
export async function copyOfDatabase({ url }: TestDatabase): Promise<TestDatabase> {
  return databaseLike(new URL(url).pathname.slice(1));
}

async function databaseLike(template: string): Promise<TestDatabase> {
  const server = inject('postgresUrl');
  const name = `t_${randomBytes(8).toString('hex')}`;
  await onServer(server, `create database ${name} template ${template}`);
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

export type { OwnStore };

export const ownRedis = (): Promise<OwnStore> => ownRedisIn(inject('stateFolder'));

/** As a new one is. */
export const ownEmptyPostgres = (): Promise<OwnStore> => ownEmptyPostgresIn(inject('stateFolder'));

/** Migrated. */
export async function ownPostgres(): Promise<OwnStore> {
  const store = await ownEmptyPostgres();
  await runMigrations(store.url);
  return store;
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
