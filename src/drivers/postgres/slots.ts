import type { Admission, HeldSlot, WaitingStep } from '../../core/admission.js';
import type { Slots } from '../../ports/slots.js';
import { constraintOf, type Database } from './database.js';

/** As the index steps_waiting has it. */
const WAITS = `s.cluster = $1 and s.slots is not null and s.worker_id is null and not s.is_gathering and s.state in ('ready', 'undoing')`;

export class PostgresSlots implements Slots {
  constructor(private readonly database: Database) {}

  /** From line to line along the index, and only so far into each. */
  async view(
    cluster: string,
    perLine: number,
  ): Promise<{ waiting: readonly WaitingStep[]; held: readonly HeldSlot[] }> {
    const [row] = await this.database.query<{ waiting: WaitingStep[]; held: HeldSlot[] }>(
      `with recursive line as (
         (select s.owner_id, s.slots from steps s where ${WAITS} order by s.owner_id, s.slots limit 1)
         union all
         select n.owner_id, n.slots from line l cross join lateral (
           select s.owner_id, s.slots from steps s where ${WAITS} and (s.owner_id, s.slots) > (l.owner_id, l.slots)
            order by s.owner_id, s.slots limit 1) n),
       waiting as (
         select s.id, l.owner_id as owner, l.slots, s.rank from line l cross join lateral (
           select s.id, s.rank from steps s
            where ${WAITS} and s.owner_id = l.owner_id and s.slots = l.slots and s.due_at <= now() order by s.rank, s.id limit $2) s
          where not exists (select 1 from cluster_stops where cluster = $1)),
       held as (
         select h.resource, h.number, s.owner_id as owner from slots h join steps s on s.id = h.step_id
          where h.resource in (select unnest(slots) from waiting))
       select (select coalesce(json_agg(w), '[]') from waiting w) as waiting, (select coalesce(json_agg(h), '[]') from held h) as held`,
      [cluster, perLine],
    );
    return row!;
  }

  async take(admitted: Admission['admitted']): Promise<number> {
    const slots = admitted.flatMap(({ stepId, slots: own }) =>
      own.map((slot) => ({ ...slot, step: stepId })),
    );
    try {
      const rows = await this.database.query(
        `with due as (
           select id from steps where id = any ($1::uuid[]) and slots is not null and worker_id is null and not is_gathering and state in ('ready', 'undoing')
            order by id for update skip locked),
         taken as (
           insert into slots (resource, number, step_id)
           select a.resource, a.number, a.step from jsonb_to_recordset($2) as a (resource text, number int, step uuid) join due on due.id = a.step),
         handed as (
           update steps s set slots = null, dispatch = s.dispatch + 1, dispatched_at = clock_timestamp() from due where s.id = due.id
           returning s.id, s.dispatch)
         insert into outbox (kind, payload) select 'dispatch', jsonb_build_object('stepId', id, 'number', dispatch) from handed returning id`,
        [admitted.map(({ stepId }) => stepId), JSON.stringify(slots)],
      );
      return rows.length;
    } catch (error) {
      if (constraintOf(error) === 'slots_pkey') return 0;
      throw error;
    }
  }
}
