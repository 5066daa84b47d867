import type { LockWait, MeasuredLimit } from '../../core/slot-limit.js';
import type { HeldStep } from '../../ports/run-store.js';
import type { SlotLimit, SlotLimits } from '../../ports/slots.js';
import type { Database } from './database.js';

interface LimitSql {
  resource: string;
  fixed: number | null;
  measured: number | null;
  why: string | null;
  changed_ms: number | null;
  waits: number;
  wait_ms: number;
  wait_variance: number;
  too_much: number | null;
  too_much_ms: number | null;
}

interface WaitSql {
  resource: string;
  waitMs: number;
  timedOut: boolean;
  admittedAtMs: number;
}

const COLUMNS = `resource, fixed, measured, why, ms(changed_at) as changed_ms, waits, wait_ms, wait_variance, too_much, ms(too_much_at) as too_much_ms`;

export class PostgresSlotLimits implements SlotLimits {
  constructor(private readonly database: Database) {}

  async noteWait(
    held: HeldStep,
    resource: string,
    { waitMs, timedOut }: Omit<LockWait, 'admittedAtMs'>,
  ): Promise<void> {
    await this.database.query(
      `insert into slot_waits (cluster, resource, wait_ms, timed_out, admitted_at)
       select cluster, $4, $5, $6, dispatched_at from steps where id = $1 and epoch = $2 and worker_id = $3`,
      [held.stepId, held.epoch, held.workerId, resource, waitMs, timedOut],
    );
  }

  async read(cluster: string): Promise<{
    limits: readonly SlotLimit[];
    waits: ReadonlyMap<string, readonly LockWait[]>;
    nowMs: number;
  }> {
    const [row] = await this.database.query<{ limits: LimitSql[]; waits: WaitSql[]; now_ms: number }>(
      `with gone as (delete from slot_waits where cluster = $1 returning resource, wait_ms, timed_out, admitted_at)
       select (select coalesce(json_agg(l), '[]') from (select ${COLUMNS} from slot_limits where cluster = $1) l) as limits,
              (select coalesce(json_agg(json_build_object('resource', resource, 'waitMs', wait_ms, 'timedOut', timed_out, 'admittedAtMs', ms(admitted_at))), '[]') from gone) as waits,
              ms(clock_timestamp()) as now_ms`,
      [cluster],
    );
    const { limits, waits, now_ms: nowMs } = row!;
    const byResource = new Map<string, LockWait[]>();
    for (const { resource, ...wait } of waits)
      byResource.set(resource, [...(byResource.get(resource) ?? []), wait]);
    return { limits: limits.map(slotLimit), waits: byResource, nowMs };
  }

  async save(cluster: string, resource: string, measured: MeasuredLimit | undefined): Promise<void> {
    await this.database.query(
      `insert into slot_limits (resource, cluster, measured, why, changed_at, waits, wait_ms, wait_variance, too_much, too_much_at)
       values ($1, $2, $3, $4, from_ms($5), $6, $7, $8, $9, from_ms($10))
       on conflict (resource) do update set measured = excluded.measured, why = excluded.why, changed_at = excluded.changed_at, waits = excluded.waits,
         wait_ms = excluded.wait_ms, wait_variance = excluded.wait_variance, too_much = excluded.too_much, too_much_at = excluded.too_much_at`,
      [
        resource,
        cluster,
        measured?.limit ?? null,
        measured?.why ?? null,
        measured?.changedAtMs ?? null,
        measured?.waits.count ?? 0,
        measured?.waits.meanMs ?? 0,
        measured?.waits.variance ?? 0,
        measured?.tooMuch?.limit ?? null,
        measured?.tooMuch?.atMs ?? null,
      ],
    );
  }

  async list(cluster: string): Promise<readonly (SlotLimit & { inUse: number; waiting: number })[]> {
    const rows = await this.database.query<LimitSql & { in_use: number; waiting: number }>(
      `select ${COLUMNS}, (select count(*)::int from slots h where h.resource = l.resource) as in_use,
              (select count(*)::int from steps s where s.cluster = $1 and s.slots is not null and s.worker_id is null and not s.is_gathering and s.state in ('ready', 'undoing')
                  and s.due_at <= now() and l.resource = any (s.slots)) as waiting
         from slot_limits l where cluster = $1 order by resource`,
      [cluster],
    );
    return rows.map((row) => ({ ...slotLimit(row), inUse: row.in_use, waiting: row.waiting }));
  }

  async fix(
    cluster: string,
    wanted: ReadonlyMap<string, number | undefined>,
    actor: string,
  ): Promise<boolean> {
    return this.database.transaction(async (queries) => {
      const known = await queries.query<{ resource: string; fixed: number | null }>(
        'select resource, fixed from slot_limits where cluster = $1 and resource = any ($2) for update',
        [cluster, [...wanted.keys()]],
      );
      if (known.length < wanted.size) return false;
      const changes = known.map(({ resource, fixed }) => ({
        resource,
        fixed: wanted.get(resource) ?? null,
        was: fixed,
      }));
      await queries.query(
        `with c as (select * from jsonb_to_recordset($1) as c (resource text, fixed int, was int)),
              u as (update slot_limits l set fixed = c.fixed from c where l.resource = c.resource)
         insert into audit (actor, action, subject, detail)
         select $2, 'slot-limit.fix', resource, jsonb_build_object('from', coalesce(was::text, 'auto'), 'to', coalesce(fixed::text, 'auto')) from c`,
        [JSON.stringify(changes), actor],
      );
      return true;
    });
  }
}

function slotLimit(row: LimitSql): SlotLimit {
  return {
    resource: row.resource,
    fixed: row.fixed ?? undefined,
    measured:
      row.measured === null
        ? undefined
        : {
            limit: row.measured,
            why: row.why ?? '',
            changedAtMs: row.changed_ms ?? 0,
            waits: { count: row.waits, meanMs: row.wait_ms, variance: row.wait_variance },
            tooMuch: row.too_much === null ? undefined : { limit: row.too_much, atMs: row.too_much_ms ?? 0 },
          },
  };
}
