import { createHash, randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { DataSource, type MigrationInterface, type QueryRunner } from 'typeorm';
import { HatcheryError } from '../../core/errors.js';

/** Read from `src/drivers/postgres` as well as from `dist/drivers/postgres`. */
const FOLDER = join(import.meta.dirname, '..', '..', '..', 'migrations');
/** Any number that nobody else locks in this database: "hatchery" as bytes, cut to 63 bits. */
const LOCK = '7521962886024622713';

/**
 * Brings the database to the newest `migrations/<13 digits>-<slug>.sql`, each file in a transaction of its own.
 * Safe from many processes at once: they wait for each other on an advisory lock.
 * Errors: `settings-invalid` when a file was edited after it was applied, or when the database knows a later file than we do.
 */
export async function runMigrations(databaseUrl: string, folder: string = FOLDER): Promise<void> {
  const files = await readFiles(folder);
  await underLock(databaseUrl, async (client) => {
    await client.query(
      'create table if not exists migration_files (name text primary key, sha256 text not null, applied_at timestamptz not null default now())',
    );
    const { rows } = await client.query<{ name: string; sha256: string }>(
      'select name, sha256 from migration_files',
    );
    for (const applied of rows) refuseIfChanged(applied, files.get(applied.name));
    const source = new DataSource({
      type: 'postgres',
      url: databaseUrl,
      migrations: [...files].map(([name, file]) => migrationClass(name, file)),
      migrationsTransactionMode: 'each',
      poolSize: 1,
      logger: 'debug',
    });
    await source.initialize();
    try {
      await source.runMigrations();
    } finally {
      await source.destroy();
    }
  });
}

export interface Deployment {
  readonly id: string;
  readonly name: string;
}

/**
 * Reads who this database belongs to; the first caller after the first migration names it.
 * Errors: `settings-invalid` when it has another name: a copied database must not act on the guests of its original.
 */
export async function ensureDeployment(databaseUrl: string, name: string): Promise<Deployment> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await client.query('insert into deployment (id, name) values ($1, $2) on conflict (is_only) do nothing', [
      randomUUID(),
      name,
    ]);
    const { rows } = await client.query<Deployment>('select id, name from deployment');
    const deployment = rows[0]!;
    if (deployment.name === name) return deployment;
    throw new HatcheryError(
      'settings-invalid',
      `Unable to use the database: it belongs to deployment "${deployment.name}", and HATCHERY_DEPLOYMENT is "${name}"`,
      {
        retry: 'after-fix',
        hint: `Set HATCHERY_DEPLOYMENT=${deployment.name}. If this is a copy that shall live a life of its own, run: hatchery admin new-deployment`,
      },
    );
  } finally {
    await client.end();
  }
}

interface MigrationFile {
  readonly sql: string;
  readonly sha256: string;
}

async function readFiles(folder: string): Promise<Map<string, MigrationFile>> {
  const names = (await readdir(folder)).filter((name) => /^\d{13}-[a-z0-9-]+\.sql$/.test(name)).sort();
  const files = new Map<string, MigrationFile>();
  for (const name of names) {
    const sql = await readFile(join(folder, name), 'utf8');
    files.set(name, { sql, sha256: createHash('sha256').update(sql).digest('hex') });
  }
  return files;
}

function refuseIfChanged(applied: { name: string; sha256: string }, file: MigrationFile | undefined): void {
  if (file === undefined)
    throw new HatcheryError(
      'settings-invalid',
      `Unable to migrate the database: it already has ${applied.name}, which this version of Hatchery does not know`,
      { retry: 'after-fix', hint: 'Start the version that made it, or a later one.' },
    );
  if (file.sha256 !== applied.sha256)
    throw new HatcheryError(
      'settings-invalid',
      `Unable to migrate the database: ${applied.name} was edited after it was applied`,
      { retry: 'after-fix', hint: 'Restore the file and write the change as a new migration.' },
    );
}

/** TypeORM orders migrations by the 13 digits at the end of the class name. */
function migrationClass(name: string, { sql, sha256 }: MigrationFile): new () => MigrationInterface {
  const Migration = class implements MigrationInterface {
    async up(runner: QueryRunner): Promise<void> {
      await runner.query(sql);
      await runner.query('insert into migration_files (name, sha256) values ($1, $2)', [name, sha256]);
    }
    down(): Promise<void> {
      return Promise.reject(
        new HatcheryError('internal', `Unable to take back ${name}: migrations only go forward`),
      );
    }
  };
  const [digits] = name.split('-');
  Object.defineProperty(Migration, 'name', { value: `M${digits}` });
  return Migration;
}

async function underLock(databaseUrl: string, work: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    await client.query(`select pg_advisory_lock(${LOCK})`);
    await work(client);
  } finally {
    // Ends the session, and with it the lock.
    await client.end();
  }
}
