import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ensureDeployment, runMigrations } from '../../src/drivers/postgres/migrations.js';
import { testDatabase, type TestDatabase } from '../support/stores.js';

let database: TestDatabase;
let client: pg.Client;

beforeEach(async () => {
  database = await testDatabase();
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
});

afterEach(async () => {
  await client.end();
  await database.drop();
});

describe('migrations', () => {
  let folder: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'hatchery-migrations-'));
    await client.query('drop schema public cascade; create schema public');
    await writeFile(
      join(folder, '1763700000001-first.sql'),
      'create table first (id int); insert into first values (1);',
    );
  });
  afterEach(() => rm(folder, { recursive: true }));

  it('are applied once when several processes boot at the same time', async () => {
    await Promise.all([1, 2, 3, 4].map(() => runMigrations(database.url, folder)));
    expect((await client.query('select id from first')).rows).toEqual([{ id: 1 }]);
  });

  it('are applied in the order of their numbers, new ones only', async () => {
    await runMigrations(database.url, folder);
    await writeFile(
      join(folder, '1763700000003-third.sql'),
      'insert into first select max(id) * 10 from first;',
    );
    await writeFile(join(folder, '1763700000002-second.sql'), 'insert into first values (2);');
    await runMigrations(database.url, folder);
    expect((await client.query('select id from first order by id')).rows).toEqual([
      { id: 1 },
      { id: 2 },
      { id: 20 },
    ]);
  });

  it('leave nothing of a file that fails halfway', async () => {
    await writeFile(join(folder, '1763700000002-broken.sql'), 'create table half (id int); select nonsense;');
    await expect(runMigrations(database.url, folder)).rejects.toThrow(/nonsense/);
    expect((await client.query("select to_regclass('half') as half")).rows).toEqual([{ half: null }]);
  });

  it('refuse a file that was edited after it was applied', async () => {
    await runMigrations(database.url, folder);
    await writeFile(join(folder, '1763700000001-first.sql'), 'create table first (id bigint);');
    await expect(runMigrations(database.url, folder)).rejects.toMatchObject({
      code: 'settings-invalid',
      message: expect.stringContaining('1763700000001-first.sql was edited'),
    });
  });

  it('refuse a database that a later version has migrated', async () => {
    await writeFile(join(folder, '1763700000002-second.sql'), 'select 1;');
    await runMigrations(database.url, folder);
    await rm(join(folder, '1763700000002-second.sql'));
    await expect(runMigrations(database.url, folder)).rejects.toMatchObject({ code: 'settings-invalid' });
  });
});

describe('the deployment', () => {
  it('keeps the id of its first start', async () => {
    const first = await ensureDeployment(database.url, 'lycee-jean-moulin');
    expect(await ensureDeployment(database.url, 'lycee-jean-moulin')).toEqual(first);
  });

  it('is refused under another name, with the command for a copy', async () => {
    await ensureDeployment(database.url, 'lycee-jean-moulin');
    await expect(ensureDeployment(database.url, 'copy')).rejects.toMatchObject({
      code: 'settings-invalid',
      hint: expect.stringContaining('hatchery admin new-deployment'),
    });
  });
});
