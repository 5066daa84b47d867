import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { createBatch } from '../../src/client/sdk.gen.js';
import type { Client } from '../../src/client/client/index.js';
import { answer } from '../../src/cli/api.js';
import { type Bench, percentile, round, say } from './support/bench.js';
import { rosterOf, startProduct } from './support/product.js';

const MACHINES = 600;
const FEW = 3;
const ROUNDS = 15;
/** What a submit writes; children before parents when they are emptied, the other way round when they are filled. */
const TABLES = [
  'batches',
  'machines',
  'reservations',
  'runs',
  'steps',
  'outbox',
  'events',
  'audit',
  'idempotency_keys',
] as const;

type Rows = ReadonlyMap<string, string>;

/**
 * A class list of 600 at the API of a running deployment: signed in, validated, planned, idempotent and durable when the answer comes,
 * over the bare insert of the very same rows in one transaction on the same server. `--rounds N`: 15 by default.
 */
export const bench: Bench = async (args) => {
  const { values } = parseArgs({
    args: [...args],
    options: { rounds: { type: 'string', default: String(ROUNDS) } },
  });
  const rounds = Number(values.rounds);
  const product = await startProduct({ timeScale: 0.05, workers: 0 });
  const db = new pg.Client({ connectionString: product.postgresUrl });
  await db.connect();
  try {
    const client = await product.signIn('teacher');
    const submits = { many: [] as Submit[], few: [] as Submit[] };
    const bare: number[] = [];
    const replays: number[] = [];
    const statements = await StatementLog.start(db);
    const apiBefore = (await product.cpuSeconds()).api;
    for (let number = -1; number < rounds; number += 1) {
      await empty(db);
      const few = await submit(
        client,
        `few-${number + 1}`,
        await rosterOf(FEW, `f${number + 1}`),
        statements,
      );
      await empty(db);
      const roster = await rosterOf(MACHINES, `m${number + 1}`);
      const many = await submit(client, `many-${number + 1}`, roster, statements);
      const again = await submit(client, `many-${number + 1}`, roster, statements, many.key);
      const rows = await written(db);
      await empty(db);
      const bareMs = await insert(db, rows);
      // The first round warms everything up.
      if (number < 0) continue;
      submits.few.push(few);
      submits.many.push(many);
      replays.push(again.ms);
      bare.push(bareMs);
      say(`${MACHINES}: ${Math.round(many.ms)} ms, bare ${Math.round(bareMs)} ms`);
    }
    const apiCpu = (await product.cpuSeconds()).api - apiBefore;
    const ms = submits.many.map((one) => one.ms);
    const least = (of: readonly Submit[], what: 'inTransaction' | 'inAll'): number =>
      Math.min(...of.map((one) => one[what]));
    return {
      isMet: least(submits.many, 'inTransaction') === least(submits.few, 'inTransaction'),
      ratioP50: round(percentile(ms, 0.5) / percentile(bare, 0.5), 2),
      ratioP95: round(percentile(ms, 0.95) / percentile(bare, 0.95), 2),
      machines: MACHINES,
      rounds,
      submitMs: { p50: round(percentile(ms, 0.5), 0), p95: round(percentile(ms, 0.95), 0) },
      bareInsertMs: { p50: round(percentile(bare, 0.5), 0), p95: round(percentile(bare, 0.95), 0) },
      replayMs: round(percentile(replays, 0.5), 0),
      submitOf3Ms: round(percentile(submits.few.map((one) => one.ms), 0.5), 0), // prettier-ignore
      // The transaction alone; and everything that the API's connections sent meanwhile, its caretaker's included (the least of all rounds).
      statementsInTransaction: {
        of3: least(submits.few, 'inTransaction'),
        of600: least(submits.many, 'inTransaction'),
      },
      statementsInAll: { of3: least(submits.few, 'inAll'), of600: least(submits.many, 'inAll') },
      apiCpuSecondsPerRound: round(apiCpu / (rounds + 1), 3),
    };
  } finally {
    await db.end();
    await product.stop();
  }
};

interface Submit {
  readonly ms: number;
  readonly key: string;
  readonly inTransaction: number;
  readonly inAll: number;
}

async function submit(
  client: Client,
  name: string,
  roster: string,
  statements: StatementLog,
  key: string = randomUUID(),
): Promise<Submit> {
  const file = new File([roster], `${name}.csv`, { type: 'text/csv' });
  await statements.skip();
  const startedAt = performance.now();
  await answer(
    createBatch({
      client,
      body: { roster: file, blueprint: 'student-desktop', name },
      headers: { 'Idempotency-Key': key },
    }),
  );
  const ms = performance.now() - startedAt;
  return { ms, key, ...(await statements.count()) };
}

async function empty(db: pg.Client): Promise<void> {
  // The relay has handed over what was accepted: it would wait for our lock otherwise, or we for its.
  for (;;) {
    const { rows } = await db.query<{ open: boolean }>('select exists (select from outbox) as open');
    if (!rows[0]!.open) break;
    await sleep(20);
  }
  await db.query(`truncate ${TABLES.join(', ')} cascade`);
}

async function written(db: pg.Client): Promise<Rows> {
  const rows = new Map<string, string>();
  for (const table of TABLES) {
    const found = await db.query<{ rows: string }>(
      `select coalesce(jsonb_agg(to_jsonb(t)), '[]')::text as rows from ${table} t`,
    );
    rows.set(table, found.rows[0]!.rows);
  }
  return rows;
}

async function insert(db: pg.Client, rows: Rows): Promise<number> {
  const startedAt = performance.now();
  await db.query('begin');
  for (const [table, values] of rows)
    await db.query(
      `insert into ${table} overriding system value select * from jsonb_populate_recordset(null::${table}, $1)`,
      [values],
    );
  await db.query('commit');
  return performance.now() - startedAt;
}

/** Reads from the server's own log what was sent to it: nothing of the product counts itself. */
class StatementLog {
  private from = 0;

  private constructor(private readonly file: string) {}

  static async start(db: pg.Client): Promise<StatementLog> {
    const { rows } = await db.query<{ data_directory: string }>('show data_directory');
    await db.query(`set log_statement = 'none'`);
    await db.query(`alter system set log_statement = 'all'`);
    await db.query(`alter system set log_line_prefix = '%p %v %a|'`);
    await db.query('select pg_reload_conf()');
    return new StatementLog(join(rows[0]!.data_directory, '..', 'postgres.log'));
  }

  async skip(): Promise<void> {
    this.from = (await readFile(this.file)).length;
  }

  /** Since `skip`. The transaction is that of the session that wrote the machines. */
  async count(): Promise<{ inTransaction: number; inAll: number }> {
    const lines = (await readFile(this.file)).subarray(this.from).toString().split('\n');
    const sent = lines.filter((line) => /^\d+ \S+ [^|]*\|LOG: {2}(execute|statement)/.test(line));
    const of = (line: string): string => line.split(' ', 2).join(' ');
    const writes = sent.find((line) => line.includes('insert into machines'));
    return {
      inTransaction: writes === undefined ? 0 : sent.filter((line) => of(line) === of(writes)).length,
      inAll: sent.length,
    };
  }
}
