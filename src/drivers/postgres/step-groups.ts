import type { GroupRule, StepGroups } from '../../ports/step-groups.js';
import type { Database } from './database.js';

interface WaitingGroup {
  key: string;
  leader: string;
  is_due: boolean;
  again_ms: number;
}

/** What the steps of a group have in common when they may be claimed. */
const GATHERS = `s.is_gathering and s.state in ('ready', 'undoing') and s.worker_id is null and s.due_at <= clock_timestamp()
  and not exists (select 1 from cluster_stops c where c.cluster = s.cluster)`;

/** Who had their turn and lost it with their worker do not stand in line anew: behind a whole class that is minutes. */
const IN_TURN = 's.first_claimed_at, s.due_at, s.id';

export class PostgresStepGroups implements StepGroups {
  constructor(private readonly database: Database) {}

  async open(cluster: string, rules: readonly GroupRule[]): Promise<number | undefined> {
    const waiting = await this.waiting(cluster, rules);
    const leaders: string[] = [];
    let againMs: number | undefined;
    for (const group of waiting) {
      if (group.is_due || !(await this.isAwaited(group))) leaders.push(group.leader);
      else againMs = Math.min(againMs ?? Infinity, group.again_ms);
    }
    if (leaders.length > 0) await this.lead(leaders);
    return againMs;
  }

  async gathered(leader: { id: string; groupKey: string }, limit: number): Promise<readonly string[]> {
    const rows = await this.database.query<{ id: string }>(
      `select id from (
         select s.id, row_number() over (order by ${IN_TURN}) as place, row_number() over (partition by s.owner_id order by s.is_gathering, ${IN_TURN}) as turn
           from steps s
          where s.group_key = $1 and (s.id = $2 or ${GATHERS})) as q
        where id <> $2 order by turn, place limit $3`,
      [leader.groupKey, leader.id, limit],
    );
    return rows.map((row) => row.id);
  }

  /** Groups of the cluster that nobody makes right now, each with the step that would lead it. */
  private async waiting(cluster: string, rules: readonly GroupRule[]): Promise<WaitingGroup[]> {
    return this.database.query<WaitingGroup>(
      `with g as (
         select s.group_key, count(*) as count, min(s.due_at) as since, (array_agg(s.id order by ${IN_TURN}))[1] as leader
           from steps s where s.cluster = $1 and ${GATHERS} group by s.group_key)
       select g.group_key as key, g.leader, g.count >= coalesce(r.max, 1) or w.left_ms <= 0 as is_due, w.left_ms as again_ms
         from g left join jsonb_to_recordset($2) as r (kind text, "windowMs" double precision, max int) on r.kind = split_part(g.group_key, ' ', 1)
        cross join lateral (select coalesce(r."windowMs", 0) - extract(epoch from clock_timestamp() - g.since) * 1000 as left_ms) as w
        where not exists (
          select 1 from steps o where o.group_key = g.group_key and not o.is_gathering and o.state in ('ready', 'running', 'undoing')
             and (o.worker_id is not null or not exists (select 1 from cluster_stops c where c.cluster = o.cluster)))`,
      [cluster, JSON.stringify(rules)],
    );
  }

  /** Another step will come to the same group soon: one that its run has not reached yet, forward, or on the way back from what it made. */
  private async isAwaited({ key, leader }: WaitingGroup): Promise<boolean> {
    const [row] = key.startsWith('undo:')
      ? await this.database.query<{ is_awaited: boolean }>(
          `select exists (
             select 1 from effects mine join effects e on e.system = mine.system and e.kind = mine.kind and e.state in ('intended', 'confirmed')
               join steps s on s.id = e.step_id join runs r on r.id = s.run_id
              where mine.step_id = $1 and mine.state <> 'undone' and s.state not in ('undoing', 'undo-parked') and r.wanted = 'gone' and r.state <> 'parked') as is_awaited`,
          [leader],
        )
      : await this.database.query<{ is_awaited: boolean }>(
          `select exists (
             select 1 from steps mine join steps s on s.uses = mine.uses and s.cluster = mine.cluster and s.state = 'pending'
               join runs r on r.id = s.run_id
              where mine.id = $1 and r.wanted = 'done' and r.state in ('queued', 'running') and r.finished_at is null) as is_awaited`,
          [leader],
        );
    return row!.is_awaited;
  }

  /** Whoever leads waits for its slots like any other step. */
  private async lead(steps: readonly string[]): Promise<void> {
    await this.database.query(
      'update steps set is_gathering = false where id = any ($1::uuid[]) and is_gathering',
      [steps],
    );
  }
}
