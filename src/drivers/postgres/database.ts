import pg from 'pg';

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

/** Serialization failure, deadlock: the whole transaction may be repeated (nothing of it was done). */
const REPEATABLE = new Set(['40001', '40P01']);
const MAX_REPEATS = 5;

/**
 * One pool of connections to Postgres.
 * A transaction repeats on serialization failures and deadlocks, so its work must not reach outside; no connection is held across a remote call.
 */
export class Database implements Queries {
  private readonly pool: pg.Pool;
  /** Statements sent, for tests that count them. */
  statements = 0;

  constructor(url: string, options: { max?: number; onError?: (error: Error) => void } = {}) {
    this.pool = new pg.Pool({
      connectionString: url,
      max: options.max ?? 10,
      types: parsers as pg.CustomTypesConfig,
    });
    this.pool.on('error', (error) => options.onError?.(error));
  }

  async query<R extends object = Row>(text: string, values: readonly unknown[] = []): Promise<R[]> {
    this.statements += 1;
    return (await this.pool.query<R>(text, [...values])).rows;
  }

  async transaction<T>(work: (queries: Queries) => Promise<T>): Promise<T> {
    for (let repeats = 0; ; repeats += 1) {
      const client = await this.pool.connect();
      let broken: Error | undefined;
      try {
        this.statements += 2;
        await client.query('begin');
        const result = await work({
          query: async <R extends object = Row>(text: string, values: readonly unknown[] = []) => {
            this.statements += 1;
            return (await client.query<R>(text, [...values])).rows;
          },
        });
        await client.query('commit');
        return result;
      } catch (error) {
        await client.query('rollback').catch((rollbackError: unknown) => {
          broken = rollbackError instanceof Error ? rollbackError : new Error(String(rollbackError));
        });
        if (!REPEATABLE.has(sqlState(error) ?? '') || repeats >= MAX_REPEATS) throw error;
      } finally {
        client.release(broken);
      }
    }
  }

  async close(): Promise<void> {
    await this.pool.end();
  }
}

/** SQLSTATE of a Postgres error, e.g. `23505` for a broken unique constraint. */
export function sqlState(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.code : undefined;
}

/** Name of the constraint that refused, e.g. `batches_name`. */
export function constraintOf(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.constraint : undefined;
}
