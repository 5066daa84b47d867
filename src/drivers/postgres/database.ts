import { createHash } from 'node:crypto';
import pg from 'pg';
import { StoreUnavailable } from '../../ports/store-unavailable.js';
import { systemClock } from '../system-clock.js';
import { ListenedClient } from './listened-client.js';

/** bigint (counts, sequence numbers) as number: ours stay far below 2^53. */
const parsers = {
  getTypeParser: (oid: number, format?: 'text' | 'binary') =>
    oid === 20 ? Number : pg.types.getTypeParser(oid, format as 'text'),
};

export type Row = Record<string, unknown>;

/** The part of a connection that queries need; a transaction gives one, the database itself is one. */
export interface Queries {
  query<R extends object = Row>(text: string, values?: readonly unknown[]): Promise<R[]>;
}

/** A statement and its values, which never become part of its text. */
export interface Statement {
  readonly text: string;
  readonly values: readonly unknown[];
}

/** Serialization failure, deadlock: the whole transaction may be repeated (nothing of it was done). */
const REPEATABLE = new Set(['40001', '40P01']);
const MAX_REPEATS = 5;
/** Before a repeat, so that two transactions that met once do not meet again. */
const REPEAT_WITHIN_MS = 20;
/** Connection, operator intervention, resources, a lock not available: classes and codes that say nothing about the statement. */
const UNAVAILABLE = /^(08|53|57|58|25P03|40001|40P01|55P03)/;
const CONNECT_MS = 10_000;
const ANSWER_MS = 30_000;
/** A process that is suspended in the middle of a transaction loses its locks after this time. */
const IDLE_IN_TRANSACTION_MS = 10_000;

/**
 * One pool of connections to Postgres.
 * A transaction repeats on serialization failures and deadlocks, so its work must not reach outside; no connection is held across a remote call.
 * Errors: `StoreUnavailable` when Postgres is away or too busy, else what Postgres says.
 */
export class Database implements Queries {
  private readonly pool: pg.Pool;
  private readonly begin: string;
  /** Statements sent, for tests that count them. */
  statements = 0;

  constructor(
    url: string,
    options: { max?: number; idleInTransactionMs?: number; onError?: (error: Error) => void } = {},
  ) {
    this.begin = `begin; set local idle_in_transaction_session_timeout = ${options.idleInTransactionMs ?? IDLE_IN_TRANSACTION_MS}`;
    this.pool = new pg.Pool({
      connectionString: url,
      Client: ListenedClient,
      max: options.max ?? 10,
      types: parsers as pg.CustomTypesConfig,
      connectionTimeoutMillis: CONNECT_MS,
      query_timeout: ANSWER_MS,
      keepAlive: true,
      // What is asked of a connection in one turn leaves at once, and is answered in its order.
      pipeline: true,
    } as pg.PoolConfig);
    this.pool.on('error', (error) => options.onError?.(error));
  }

  async query<R extends object = Row>(text: string, values: readonly unknown[] = []): Promise<R[]> {
    this.statements += 1;
    return (await this.available(this.pool.query<R>(prepared({ text, values })))).rows;
  }

  async transaction<T>(work: (queries: Queries) => Promise<T>): Promise<T> {
    return this.repeated(async (client) => {
      this.statements += 2;
      await this.available(client.query(this.begin));
      const result = await work({
        query: async <R extends object = Row>(text: string, values: readonly unknown[] = []) => {
          this.statements += 1;
          return (await this.available(client.query<R>(prepared({ text, values })))).rows;
        },
      });
      await this.available(client.query('commit'));
      return result;
    });
  }

  /**
   * A transaction of two round trips, for what happens with every step: `reads` leave together with its begin, and the writes that `decide`
   * makes of their rows leave together with its commit. Each statement sees what was committed before it began; the first one may wait for a lock.
   */
  async exchange<T>(
    reads: readonly Statement[],
    decide: (rows: readonly Row[][]) => { writes: readonly Statement[]; result: T },
  ): Promise<T> {
    return this.repeated(async (client) => {
      const ask = (one: Statement): Promise<pg.QueryResult<Row>> => client.query<Row>(prepared(one));
      const [, ...read] = await this.sent([client.query<Row>(this.begin), ...reads.map(ask)]);
      const { writes, result } = decide(read.map((answer) => answer.rows));
      // A commit behind a write that failed rolls back.
      await this.sent([...writes.map(ask), client.query<Row>('commit')]);
      return result;
    });
  }

  /** What needs no reading: one round trip. Several are one transaction. */
  async write(statements: readonly Statement[]): Promise<Row[][]> {
    if (statements.length === 0) return [];
    return this.repeated(async (client) => {
      const ask = (one: Statement): Promise<pg.QueryResult<Row>> => client.query<Row>(prepared(one));
      const bare = (text: string): Promise<pg.QueryResult<Row>>[] =>
        statements.length === 1 ? [] : [client.query<Row>(text)];
      const answers = await this.sent([...bare(this.begin), ...statements.map(ask), ...bare('commit')]);
      return (statements.length === 1 ? answers : answers.slice(1, -1)).map((answer) => answer.rows);
    });
  }

  /** The error of several is the first one: the others come of it. */
  private async sent(asked: readonly Promise<pg.QueryResult<Row>>[]): Promise<pg.QueryResult<Row>[]> {
    this.statements += asked.length;
    return this.available(Promise.all(asked));
  }

  private async repeated<T>(work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    for (let repeats = 0; ; repeats += 1) {
      const client = await this.available(this.pool.connect());
      let broken: Error | undefined;
      // A connection that ends between two statements tells it by an event; with nobody listening, it ends the process.
      const onBroken = (error: Error): void => void (broken = error);
      client.on('error', onBroken);
      try {
        return await work(client);
      } catch (error) {
        await client.query('rollback').catch(onBroken);
        if (!REPEATABLE.has(sqlState(error) ?? '') || repeats >= MAX_REPEATS) throw error;
      } finally {
        client.off('error', onBroken);
        client.release(broken);
      }
      await systemClock.sleep(Math.random() * REPEAT_WITHIN_MS);
    }
  }

  async close(): Promise<void> {
    await this.pool.end();
  }

  /** What is not Postgres' own word about a statement comes from the connection; after `close` there will never be another one. */
  private async available<T>(asked: Promise<T>): Promise<T> {
    try {
      return await asked;
    } catch (error) {
      if (error instanceof pg.DatabaseError && !UNAVAILABLE.test(error.code ?? '')) throw error;
      if (error instanceof TypeError || this.pool.ending) throw error;
      throw new StoreUnavailable(error instanceof Error ? error.message : String(error), error);
    }
  }
}

/** Names of statements by their text; texts are constants of the code, so they are few. */
const names = new Map<string, string>();

/** Parsed once per connection, and planned once where one plan serves all values. */
function prepared({ text, values }: Statement): { name: string; text: string; values: unknown[] } {
  let name = names.get(text);
  if (name === undefined) {
    name = createHash('sha256').update(text).digest('hex').slice(0, 32);
    names.set(text, name);
  }
  return { name, text, values: [...values] };
}

/** SQLSTATE of a Postgres error, e.g. `23505` for a broken unique constraint. */
export function sqlState(error: unknown): string | undefined {
  const said = error instanceof StoreUnavailable ? error.cause : error;
  return said instanceof pg.DatabaseError ? said.code : undefined;
}

/** Name of the constraint that refused, e.g. `batches_name`. */
export function constraintOf(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.constraint : undefined;
}
