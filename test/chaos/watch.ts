import pg from 'pg';
import { setTimeout as sleep } from 'node:timers/promises';

/** What the runner itself asks the database: to aim its kills, to know when all is over, and to measure. No verdict comes from here. */
export class DatabaseWatch {
  readonly #pool: pg.Pool;

  constructor(url: string) {
    this.#pool = new pg.Pool({ connectionString: url, max: 3, connectionTimeoutMillis: 2_000 });
    this.#pool.on('error', () => undefined);
  }

  /** `undefined` = the database does not answer now. */
  async ask<R extends pg.QueryResultRow>(sql: string, values: unknown[] = []): Promise<R[] | undefined> {
    return this.#pool.query<R>(sql, values).then(
      ({ rows }) => rows,
      (error: { code?: string }) => {
        // What the database itself says about a statement; all the rest is a connection that is gone.
        if (/^(?:22|23|42)/.test(error.code ?? '')) throw error;
        return undefined;
      },
    );
  }

  /** As `ask`, until it answers. */
  async query<R extends pg.QueryResultRow>(sql: string, values: unknown[] = []): Promise<R[]> {
    for (;;) {
      const rows = await this.ask<R>(sql, values);
      if (rows !== undefined) return rows;
      await sleep(100);
    }
  }

  async close(): Promise<void> {
    await this.#pool.end();
  }
}

/** Runs that are neither over nor parked. */
export async function movingRuns(watch: DatabaseWatch): Promise<number | undefined> {
  const rows = await watch.ask<{ count: number }>(
    `select count(*)::int from runs where finished_at is null and state <> 'parked'`,
  );
  return rows?.[0]!.count;
}

/**
 * Runs that nobody holds and that stand in no line, in milliseconds of the database's clock since `since`: a live worker of after the restart
 * holds a step of theirs, or one waits for a slot, for its time, or in the queue as it is after the restart.
 */
export async function forgottenRuns(watch: DatabaseWatch, since: Date): Promise<number | undefined> {
  const rows = await watch.ask<{ count: number }>(
    `select count(*)::int from runs r
      where r.finished_at is null and r.state <> 'parked' and not exists (
        select 1 from steps s left join workers w on w.id = s.worker_id
         where s.run_id = r.id and s.state in ('ready', 'running', 'undoing')
           and case when s.worker_id is not null then w.stopped_at is null and w.lease_until > clock_timestamp() and w.started_at > $1
                    else s.slots is not null or s.due_at > clock_timestamp() or s.dispatched_at > $1 end)`,
    [since],
  );
  return rows?.[0]!.count;
}

/** What became of the work of the processes that were killed. */
export interface Bereavement {
  readonly pid: number;
  /** Steps that it held. */
  readonly held: number;
  /** When somebody else had each of them; a step that nobody needed any more is left out. */
  readonly goneOn: readonly GoneOn[];
}

/** A step of a dead worker that goes on elsewhere, so long after its death. */
export interface GoneOn {
  readonly step: string;
  readonly ms: number;
}

export async function bereavements(
  watch: DatabaseWatch,
  kills: readonly { pid: number; atMs: number }[],
): Promise<Bereavement[]> {
  const rows = await watch.query<{
    pid: number;
    started_ms: number;
    held: number;
    gone_on: { step: string; at: number }[];
  }>(
    `select w.pid, ms(w.started_at) as started_ms, count(a.step_id)::int as held,
            coalesce(json_agg(json_build_object('step', n.key, 'at', ms(n.at))) filter (where n.at is not null), '[]') as gone_on
       from workers w
       left join attempts a on a.worker_id = w.id and a.outcome = 'lost'
       left join lateral (select s.key, min(n.started_at) as at from attempts n join steps s on s.id = n.step_id
                           where n.step_id = a.step_id and n.epoch > a.epoch group by s.key) n on true
      where w.pid = any ($1::int[])
      group by w.id`,
    [kills.map(({ pid }) => pid)],
  );
  return kills.map(({ pid, atMs }) => {
    // A pid may be used again: the last one that began before the kill.
    const [row] = rows
      .filter((one) => one.pid === pid && one.started_ms <= atMs)
      .sort((a, b) => b.started_ms - a.started_ms);
    return {
      pid,
      held: row?.held ?? 0,
      goneOn: (row?.gone_on ?? []).map(({ step, at }) => ({ step, ms: Math.max(0, at - atMs) })),
    };
  });
}
