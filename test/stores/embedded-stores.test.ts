import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import pg from 'pg';
import { afterEach, describe, expect, inject, it } from 'vitest';
import { startEmbeddedPostgres } from '../../src/drivers/embedded/embedded-postgres.js';
import { ownPostgres, ownRedis, type OwnStore } from '../support/stores.js';

const opened: OwnStore[] = [];
const open = async (store: Promise<OwnStore>) => {
  opened.push(await store);
  return opened.at(-1)!;
};
afterEach(async () => {
  for (const store of opened.splice(0)) await store.remove();
});

async function select(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
}

describe('the embedded Postgres', () => {
  it('keeps its data and its address over a restart', async () => {
    const store = await open(ownPostgres());
    await select(store.url, 'create table kept as select 7 as id');
    await store.restart();
    expect(await select(store.url, 'select id from kept')).toEqual([{ id: 7 }]);
  });

  it('lets nobody in without the password', async () => {
    const store = await open(ownPostgres());
    const url = new URL(store.url);
    url.password = 'guess';
    await expect(select(url.href, 'select 1')).rejects.toMatchObject({ code: '28P01' });
  });
});

describe('a data folder', () => {
  it('whose server was left running is taken over, and the old server ends', async () => {
    const dataFolder = await mkdtemp(join(tmpdir(), 'hatchery-test-'));
    await chmod(dataFolder, 0o711);
    const options = { stateFolder: inject('stateFolder'), dataFolder, fsync: false };
    const left = await startEmbeddedPostgres(options);
    await select(left.url, 'create table kept as select 7 as id');
    const next = await startEmbeddedPostgres(options);
    await left.ended;
    expect(await select(next.url, 'select id from kept')).toEqual([{ id: 7 }]);
    await next.stop();
    await rm(dataFolder, { recursive: true });
  });

  it('with the number of some other process in postmaster.pid is used all the same', async () => {
    const dataFolder = await mkdtemp(join(tmpdir(), 'hatchery-test-'));
    await chmod(dataFolder, 0o711);
    const options = { stateFolder: inject('stateFolder'), dataFolder, fsync: false };
    await (await startEmbeddedPostgres(options)).stop();
    await writeFile(
      join(dataFolder, 'postgres', 'postmaster.pid'),
      `${process.pid}\n${dataFolder}/postgres\n`,
    );
    const server = await startEmbeddedPostgres(options);
    expect(await select(server.url, 'select 1 as one')).toEqual([{ one: 1 }]);
    await server.stop();
    await rm(dataFolder, { recursive: true });
  });
});

describe('the embedded Redis', () => {
  it('never evicts and asks for its password', async () => {
    const store = await open(ownRedis());
    const redis = new Redis(store.url);
    expect(await redis.config('GET', 'maxmemory-policy')).toEqual(['maxmemory-policy', 'noeviction']);
    redis.disconnect();
    const url = new URL(store.url);
    url.password = '';
    const stranger = new Redis(url.href, { retryStrategy: () => null });
    // The same refusal also arrives as an event.
    stranger.on('error', () => undefined);
    await expect(stranger.get('anything')).rejects.toThrow(/NOAUTH/);
    stranger.disconnect();
  });

  it('comes back empty under the same address', async () => {
    const store = await open(ownRedis());
    const redis = new Redis(store.url);
    await redis.set('hint', '1');
    redis.disconnect();
    await store.restart();
    const again = new Redis(store.url);
    expect(await again.get('hint')).toBeNull();
    again.disconnect();
  });
});
