import { bootTimes, type BootTimes } from '../../core/ask-times.js';
import { durationOf, type Duration, type Sighting } from '../../core/durations.js';
import type { Durations, StepDurations } from '../../ports/durations.js';
import { StoreUnavailable } from '../../ports/store-unavailable.js';
import type { Database, Queries } from './database.js';

/** Events that one round goes through. */
const ROUND = 2_000;
/** Newest steps that are kept: enough for a tenth of them to say something, few enough to forget a template that is gone. */
const KEPT = 96;
/** Rows that were written while an earlier read was under way. */
const OVERLAP_MS = 30_000;

/** [took, after, by] of one finished step, in milliseconds. */
type Counted = readonly [tookMs: number, afterMs: number, byMs: number];

interface DurationsRow {
  readonly cluster: string;
  readonly blueprint: string;
  readonly step: string;
  readonly count: number;
  readonly recent: readonly Counted[];
  readonly changed_ms: number;
}

/**
 * Finished steps are found in the log of events, which the engine writes anyway: below the oldest open transaction it is complete, and a
 * place in it counts each step once.
 */
export class PostgresDurations implements Durations {
  readonly #known = new Map<string, StepDurations>();
  #reading: Promise<void> | undefined;
  #readAtMs = -Infinity;
  #changedSinceMs = 0;

  constructor(
    private readonly database: Database,
    private readonly options: { readonly refreshMs: number; readonly now: () => number },
  ) {}

  async of(cluster: string, blueprint: string, step: string): Promise<StepDurations | undefined> {
    if (this.options.now() - this.#readAtMs > this.options.refreshMs)
      await (this.#reading ??= this.#read().finally(() => (this.#reading = undefined)));
    return this.#known.get(keyOf({ cluster, blueprint, step }));
  }

  async #read(): Promise<void> {
    try {
      const rows = await this.database.query<DurationsRow>(
        `select cluster, blueprint, step, count, recent, ms(updated_at) as changed_ms from step_durations where updated_at >= from_ms($1)`,
        [this.#changedSinceMs - OVERLAP_MS],
      );
      for (const row of rows) {
        this.#changedSinceMs = Math.max(this.#changedSinceMs, row.changed_ms);
        if (this.#known.get(keyOf(row))?.count !== row.count)
          this.#known.set(keyOf(row), new Summary(row.count, row.recent));
      }
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) throw error;
    }
    this.#readAtMs = this.options.now();
  }

  async learn(): Promise<boolean> {
    return this.database.transaction(async (queries) => {
      const [place] = await queries.query<{ xid: string; seq: number }>(
        'select xid::text as xid, seq from step_durations_place for update skip locked',
      );
      if (!place) return false;
      const events = await queries.query<EventSql>(
        `select xid::text as xid, seq, run, step, type = 'step.state' and state = 'done' as is_done from events
          where (events.xid, events.seq) > ($1::text::xid8, $2::bigint) and xid < pg_snapshot_xmin(pg_current_snapshot())
          order by events.xid, events.seq limit $3`,
        [place.xid, place.seq, ROUND],
      );
      const last = events.at(-1);
      if (!last) return false;
      await count(
        queries,
        events.filter((event) => event.is_done),
      );
      await queries.query('update step_durations_place set xid = $1::text::xid8, seq = $2', [
        last.xid,
        last.seq,
      ]);
      return events.length === ROUND;
    });
  }
}

interface EventSql {
  xid: string;
  seq: number;
  run: string;
  step: string;
  is_done: boolean;
}

async function count(queries: Queries, done: readonly EventSql[]): Promise<void> {
  const finished = done.length === 0 ? [] : await readFinished(queries, done);
  if (finished.length === 0) return;
  const news = new Map<string, { cluster: string; blueprint: string; step: string; recent: Counted[] }>();
  for (const { cluster, blueprint, step, took, after, by } of finished) {
    const key = keyOf({ cluster, blueprint, step });
    const of = news.get(key) ?? { cluster, blueprint, step, recent: [] };
    of.recent.push([took, after, by]);
    news.set(key, of);
  }
  await queries.query(
    `insert into step_durations as d (cluster, blueprint, step, count, recent, updated_at)
     select cluster, blueprint, step, count, recent, clock_timestamp()
       from jsonb_to_recordset($1) as n (cluster text, blueprint text, step text, count bigint, recent jsonb)
     on conflict (cluster, blueprint, step) do update set count = d.count + excluded.count, updated_at = excluded.updated_at,
       recent = (select jsonb_agg(one.value order by one.place)
                   from (select value, ordinality as place from jsonb_array_elements(d.recent || excluded.recent) with ordinality
                          order by ordinality desc limit $2) as one)`,
    [
      JSON.stringify(
        [...news.values()].map((one) => ({
          ...one,
          count: one.recent.length,
          recent: one.recent.slice(-KEPT),
        })),
      ),
      KEPT,
    ],
  );
}

/**
 * Of these steps those that say how long such a step takes: done at the first try, by a worker that lived, without a person's help.
 * It is at work from its first dispatch, or from its claim where a worker went on with it; a later dispatch is one of its looks.
 * A step that waits looks again and again, though not at its first attempt: the last look that found nothing and the one that found it are
 * the ends of the interval.
 */
async function readFinished(
  queries: Queries,
  done: readonly EventSql[],
): Promise<{ cluster: string; blueprint: string; step: string; took: number; after: number; by: number }[]> {
  return queries.query(
    `select s.cluster, v.name as blueprint, s.key as step,
            round(extract(epoch from s.finished_at - least(s.dispatched_at, s.first_claimed_at)) * 1000)::int as took,
            case when a.looks = 0 then t.by else coalesce(round(extract(epoch from a.missed_at - s.first_claimed_at) * 1000)::int, 0) end as after, t.by
       from jsonb_to_recordset($1) as d (run uuid, step text)
       join steps s on s.run_id = d.run and s.key = d.step and s.state = 'done' and s.tries = 0 and s.first_claimed_at is not null
       join runs r on r.id = s.run_id join batches b on b.id = r.batch_id join blueprint_versions v on v.id = b.blueprint_version_id
      cross join lateral (
        select count(*) filter (where outcome = 'waiting') as looks, max(started_at) filter (where outcome = 'waiting' and epoch > 1) as missed_at,
               max(started_at) filter (where outcome = 'done') as found_at, bool_and(outcome in ('done', 'waiting')) as is_undisturbed
          from attempts where step_id = s.id and kind = 'act') as a
      cross join lateral (
        select round(extract(epoch from case when a.looks = 0 then s.finished_at else a.found_at end - s.first_claimed_at) * 1000)::int as by) as t
      where a.is_undisturbed and t.by >= 0
      order by s.finished_at`,
    [JSON.stringify(done.map(({ run, step }) => ({ run, step })))],
  );
}

/** Each is computed when it is asked for: most steps are never asked when what they wait for came. */
class Summary implements StepDurations {
  #took: Duration | undefined;
  #came: BootTimes | undefined;

  constructor(
    readonly count: number,
    private readonly recent: readonly Counted[],
  ) {}

  get took(): Duration {
    return (this.#took ??= durationOf(
      this.recent.map(([tookMs]): Sighting => ({ afterMs: tookMs, byMs: tookMs })),
    )!);
  }

  get came(): BootTimes {
    return (this.#came ??= bootTimes(this.recent.map(([, afterMs, byMs]) => ({ afterMs, byMs })))!);
  }
}

const keyOf = (at: { cluster: string; blueprint: string; step: string }): string =>
  `${at.cluster}/${at.blueprint}/${at.step}`;
