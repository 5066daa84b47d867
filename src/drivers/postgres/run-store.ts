import type { ErrorRecord } from '../../core/errors.js';
import { v7 as uuidv7 } from 'uuid';
import type { Mark } from '../../core/mark.js';
import type { CompiledPlan } from '../../plan/compiled-plan.js';
import type { AddressHolder, EffectIntent } from '../../plan/step.js';
import type {
  HeldStep,
  LoadedRun,
  OverdueStep,
  RemoteNote,
  RunChanges,
  RunStore,
  Pulse,
  StepRow,
} from '../../ports/run-store.js';
import type { Database, Queries } from './database.js';
import { isAnything, isAtRest, settlesOf, writesOf, type QuarantineOf, type Written } from './run-changes.js';
import { Joined } from './joined.js';
import { copied, loadedRun, looksAt, readsOf, runOf } from './run-rows.js';
import { RunWriter } from './run-writer.js';
import { takeVmids } from './vmid-reservations.js';

/** Steps that may begin and that are in nobody's hands; those of stopped clusters wait. */
const UNHELD = `state in ('ready', 'undoing') and worker_id is null and slots is null
          and not exists (select 1 from cluster_stops c where c.cluster = steps.cluster)`;
/** Those of them that are in the queue, as far as Postgres knows. */
const HANDED_OVER = `${UNHELD} and not exists (select 1 from outbox where kind = 'dispatch' and payload ->> 'stepId' = steps.id::text)`;

/** Where VMIDs of a cluster come from. */
export interface VmidRange {
  readonly from: number;
  readonly to: number;
}

/** Runs that are read together. */
const MOST_LOOKS = 20;

type Work<T> = (loaded: LoadedRun) => { changes: RunChanges; result: T };

function changed<T>(
  at: LoadedRun,
  work: Work<T>,
  asRead: readonly StepRow[] = at.steps.map((step) => ({ ...step })),
): { written: Written; result: T } {
  const before = new Map(asRead.map((step) => [step.id, step]));
  const { changes, result } = work(at);
  return { written: { at, before, changes }, result };
}

/** Runs, steps, effects, slots and workers in Postgres. */
export class PostgresRunStore implements RunStore {
  private readonly plans = new Map<string, CompiledPlan>();
  private readonly writer: RunWriter;
  /** Rows of the outbox whose steps the queue has. */
  private handedOver: readonly number[] = [];
  private readonly reader = new Joined<string, LoadedRun | undefined>(MOST_LOOKS, (ids) => this.lookAt(ids));

  constructor(
    private readonly database: Database,
    private readonly sites: { quarantineMs: QuarantineOf; vmids: (cluster: string) => VmidRange },
  ) {
    this.writer = new RunWriter(database);
  }

  async change<T>(by: { stepId: string } | { runId: string }, work: Work<T>): Promise<T | undefined> {
    return this.database.exchange(readsOf(by, [...this.plans.keys()]), (answers) => {
      const loaded = loadedRun(answers, (version, read) => this.planOf(version, read));
      if (!loaded) return { writes: [], result: undefined };
      const { written, result } = changed(loaded, work);
      if (!isAnything(written)) return { writes: [], result };
      const writes = writesOf([written], this.sites.quarantineMs);
      loaded.run.version += 1;
      return { writes, result };
    });
  }

  async look(stepId: string): Promise<LoadedRun | undefined> {
    return this.reader.ask(stepId);
  }

  private async lookAt(stepIds: readonly string[]): Promise<readonly (LoadedRun | undefined)[]> {
    const { text, values } = looksAt(stepIds, [...this.plans.keys()]);
    const rows = await this.database.query(text, values);
    const runs = rows.map((row) => runOf(row, (version, read) => this.planOf(version, read)));
    const byStep = new Map(runs.flatMap((run) => run.steps.map((step) => [step.id, run])));
    return stepIds.map((id) => byStep.get(id));
  }

  async changeInHand<T>(inHand: LoadedRun, work: Work<T>): Promise<{ result: T } | undefined> {
    const { written, result } = changed(copied(inHand), work, inHand.steps);
    if (isAnything(written) && !(await this.writer.write(written))) return undefined;
    written.at.run.version += 1;
    return { result };
  }

  private planOf(version: string, read: CompiledPlan | null): CompiledPlan {
    if (read) this.plans.set(version, read);
    return this.plans.get(version)!;
  }

  async intend(
    held: HeldStep,
    intents: readonly EffectIntent[],
  ): Promise<{ stale: boolean; busy?: string; hadEarlier: boolean }> {
    return this.database.transaction(async (queries) => {
      const holder = await lockHeld(queries, held);
      if (!holder) return { stale: true, hadEarlier: false };
      let hadEarlier = false;
      for (const intent of intents) {
        const answer =
          intent.shared === true
            ? await intendShared(queries, held, holder.machine_id, intent)
            : await intendOwn(queries, held, intent);
        if (answer === 'busy') return { stale: false, busy: `${intent.kind} ${intent.key}`, hadEarlier };
        hadEarlier ||= answer === 'earlier';
      }
      return { stale: false, hadEarlier };
    });
  }

  async note(held: HeldStep, key: string, note: RemoteNote | undefined): Promise<boolean> {
    const rows = await this.database.query(
      `update steps set remote = case when $5::jsonb is null then remote - $4::text else remote || jsonb_build_object($4::text, $5::jsonb) end
        where id = $1 and epoch = $2 and worker_id = $3 returning id`,
      [held.stepId, held.epoch, held.workerId, key, note === undefined ? null : JSON.stringify(note)],
    );
    return rows.length === 1;
  }

  async progress(held: HeldStep, percent: number): Promise<boolean> {
    const rows = await this.database.query(
      `with s as (update steps set percent = $4 where id = $1 and epoch = $2 and worker_id = $3 and percent is distinct from $4 returning run_id, key),
            e as (insert into events (type, batch, machine, run, step, state, percent)
                  select 'step.progress', r.batch_id, r.machine_id, r.id, s.key, 'running', $4 from s join runs r on r.id = s.run_id)
       select 1 from steps where id = $1 and epoch = $2 and worker_id = $3`,
      [held.stepId, held.epoch, held.workerId, percent],
    );
    return rows.length === 1;
  }

  async refusedBefore(held: HeldStep): Promise<ErrorRecord | undefined> {
    const [row] = await this.database.query<{ error: ErrorRecord }>(
      `select p.error from steps s join runs r on r.id = s.run_id join machines m on m.id = r.machine_id
         join steps p on p.uses = s.uses and p.state = 'parked' join runs q on q.id = p.run_id join machines n on n.id = q.machine_id
        where s.id = $1 and n.cluster = m.cluster
          and (p.error ->> 'code' = 'permission-missing' and n.batch_id = m.batch_id
               or p.error ->> 'code' = 'no-capacity' and p.input #>> '{machine,storage}' = s.input #>> '{machine,storage}'
                  and (coalesce(s.input #>> '{machine,storageShared}', s.input #>> '{machine,template,storageShared}') = 'true' or n.node = m.node))
        limit 1`,
      [held.stepId],
    );
    return row?.error;
  }

  async claimAddress(held: HeldStep, address: string): Promise<{ stale: boolean; holder?: AddressHolder }> {
    return this.database.transaction(async (queries) => {
      const at = await lockHeld(queries, held);
      if (!at) return { stale: true };
      await queries.query(`select pg_advisory_xact_lock(hashtextextended('address:' || $1, 0))`, [address]);
      const [holder] = await queries.query<{ machineId: string; name: string; vmid: number; mac: string }>(
        `select o.id as "machineId", o.name, o.vmid, o.mac from machines m join machines o on o.cluster = m.cluster and o.id <> m.id
          where m.id = $1 and o.address = $2 and o.state not in ('deleted', 'failed') limit 1`,
        [at.machine_id, address],
      );
      if (holder) return { stale: false, holder };
      await queries.query('update machines set address = $2 where id = $1', [at.machine_id, address]);
      return { stale: false };
    });
  }

  async noteVmid(held: HeldStep, note: string): Promise<boolean> {
    return this.database.transaction(async (queries) => {
      const at = await lockHeld(queries, held);
      if (!at) return false;
      await queries.query(`update reservations set note = $2 where machine_id = $1 and kind = 'vmid'`, [
        at.machine_id,
        note,
      ]);
      return true;
    });
  }

  async replaceVmid(held: HeldStep, used: ReadonlySet<number>, why: string): Promise<number | undefined> {
    return this.database.transaction(async (queries) => {
      const holder = await lockHeld(queries, held);
      if (!holder) return undefined;
      const [machine] = await queries.query<{ cluster: string; vmid: number }>(
        'select cluster, vmid from machines where id = $1 for update',
        [holder.machine_id],
      );
      const { cluster, vmid } = machine!;
      await queries.query(
        `update reservations set machine_id = null, released_at = now(), rest_until = now() + $3 * interval '1 millisecond', note = $4
          where kind = 'vmid' and scope = $1 and value = $2 and machine_id = $5`,
        [cluster, String(vmid), this.sites.quarantineMs(cluster), why, holder.machine_id],
      );
      // Ours can never come to be under a VMID that a foreign guest holds: the intents for it are closed.
      await queries.query(
        `update effects set state = 'undone', undone_at = now()
          where kind in ('guest', 'container') and system = $1 and key = $2 and state = 'intended' and step_id in (select id from steps where run_id = $3)`,
        [cluster, String(vmid), holder.run_id],
      );
      const [next] = await takeVmids(queries, cluster, this.sites.vmids(cluster), used, [holder.machine_id]);
      await queries.query('update machines set vmid = $2 where id = $1', [holder.machine_id, next]);
      return next;
    });
  }

  async letGo(held: HeldStep, effectId: string): Promise<{ stale: boolean; undo: boolean }> {
    return this.database.transaction(async (queries) => {
      const holder = await lockHeld(queries, held);
      if (!holder) return { stale: true, undo: false };
      const [effect] = await queries.query<{ state: string }>(
        'select state from effects where id = $1 for update',
        [effectId],
      );
      if (!effect || effect.state === 'undone') return { stale: false, undo: false };
      const [others] = await queries.query<{ count: number }>(
        'select count(*)::int as count from effect_holders where effect_id = $1 and machine_id <> $2 and released_at is null',
        [effectId, holder.machine_id],
      );
      if (others!.count > 0) {
        await queries.query(
          'update effect_holders set released_at = now() where effect_id = $1 and machine_id = $2',
          [effectId, holder.machine_id],
        );
        return { stale: false, undo: false };
      }
      await queries.query(`update effects set state = 'undoing' where id = $1`, [effectId]);
      return { stale: false, undo: true };
    });
  }

  async effectUndone(held: HeldStep, effectId: string): Promise<boolean> {
    return this.database.transaction(async (queries) => {
      const holder = await lockHeld(queries, held);
      if (!holder) return false;
      await queries.query(`update effects set state = 'undone', undone_at = now() where id = $1`, [effectId]);
      await queries.query(
        'update effect_holders set released_at = now() where effect_id = $1 and machine_id = $2',
        [effectId, holder.machine_id],
      );
      return true;
    });
  }

  async registerWorker(worker: {
    id: string;
    host: string;
    pid: number;
    versions: readonly string[];
    leaseMs: number;
  }): Promise<void> {
    await this.database.query(
      `insert into workers (id, host, pid, step_versions, lease_until) values ($1, $2, $3, $4, clock_timestamp() + $5 * interval '1 millisecond')`,
      [worker.id, worker.host, worker.pid, JSON.stringify(worker.versions), worker.leaseMs],
    );
  }

  async heartbeat(workerId: string, leaseMs: number): Promise<Pulse | undefined> {
    const rows = await this.database.query<{ step: string | null; epoch: number; is_draining: boolean }>(
      `with w as (update workers set lease_until = clock_timestamp() + $2 * interval '1 millisecond' where id = $1 and stopped_at is null returning id, drain_at)
       select s.id as step, s.epoch, w.drain_at is not null as is_draining from w left join steps s on s.worker_id = w.id`,
      [workerId, leaseMs],
    );
    if (rows.length === 0) return undefined;
    return {
      held: rows.flatMap(({ step, epoch }) => (step === null ? [] : [{ stepId: step, epoch, workerId }])),
      isDraining: rows[0]!.is_draining,
    };
  }

  async stopWorker(workerId: string): Promise<void> {
    await this.database.query('update workers set stopped_at = coalesce(stopped_at, now()) where id = $1', [
      workerId,
    ]);
  }

  async buryDead(
    limit: number,
  ): Promise<readonly { stepId: string; workerId: string; isOneOfMany: boolean }[]> {
    await this.database.query(
      'update workers set stopped_at = clock_timestamp() where stopped_at is null and lease_until < clock_timestamp()',
    );
    // A worker that ended in good order said so while its lease held.
    const rows = await this.database.query<{ id: string; worker_id: string; is_one_of_many: boolean }>(
      `select s.id, s.worker_id,
              exists (select from workers o where o.id <> w.id and o.lease_until between s.claimed_at and clock_timestamp()
                         and coalesce(o.stopped_at, 'infinity') >= o.lease_until) as is_one_of_many
         from steps s join workers w on w.id = s.worker_id where w.stopped_at is not null limit $1`,
      [limit],
    );
    return rows.map((row) => ({
      stepId: row.id,
      workerId: row.worker_id,
      isOneOfMany: row.is_one_of_many,
    }));
  }

  /**
   * No transaction is open while the queue is asked: it may be away for long, and events are served only below the oldest transaction.
   * What was handed over goes from the outbox with the next question; after a crash in between it is handed over again, which nobody takes twice.
   */
  async relay(
    publish: (items: readonly { stepId: string; number: number }[]) => Promise<void>,
    batch: number,
  ): Promise<number> {
    const { handedOver } = this;
    const rows = await this.database.query<{ id: number; payload: { stepId: string; number: number } }>(
      `with gone as (delete from outbox where id = any (array(select listed.value::bigint from jsonb_array_elements_text($2::jsonb) as listed)))
       update outbox set due_at = clock_timestamp() + interval '10 seconds', tries = tries + 1 where id in
         (select id from outbox where kind = 'dispatch' and due_at <= clock_timestamp() and not $2::jsonb @> to_jsonb(id) order by id limit $1 for update skip locked)
       returning id, payload`,
      [batch, JSON.stringify(handedOver)],
    );
    this.handedOver = this.handedOver.filter((id) => !handedOver.includes(id));
    if (rows.length === 0) return 0;
    await publish(rows.map((row) => row.payload));
    this.handedOver = [...this.handedOver, ...rows.map((row) => row.id)];
    return rows.length;
  }

  async settleLeft(): Promise<void> {
    const left = await this.database.query<{ id: string }>(
      `select b.id from batches b where b.is_open and ${isAtRest('b.id')}`,
    );
    for (const { id } of left) await this.database.write(settlesOf(id));
  }

  async takeAdvance(): Promise<{ outboxId: number; runId: string } | undefined> {
    const [row] = await this.database.query<{ id: number; run: string }>(
      `update outbox set due_at = clock_timestamp() + interval '10 seconds', tries = tries + 1 where id =
         (select id from outbox where kind = 'advance' and due_at <= clock_timestamp() order by id limit 1 for update skip locked)
       returning id, payload ->> 'runId' as run`,
    );
    return row && { outboxId: row.id, runId: row.run };
  }

  async takeNotice(): Promise<{ outboxId: number; batchId: string; tries: number } | undefined> {
    const [row] = await this.database.query<{ id: number; batch: string; tries: number }>(
      `update outbox set due_at = clock_timestamp() + least(3600, 10 * power(2, tries)) * interval '1 second', tries = tries + 1 where id =
         (select id from outbox where kind = 'notify' and due_at <= clock_timestamp() order by id limit 1 for update skip locked)
       returning id, payload ->> 'batchId' as batch, tries`,
    );
    return row && { outboxId: row.id, batchId: row.batch, tries: row.tries };
  }

  async advanced(outboxId: number): Promise<void> {
    await this.database.query('delete from outbox where id = $1', [outboxId]);
  }

  async overdue(afterMs: number, batch: number, behind?: OverdueStep): Promise<readonly OverdueStep[]> {
    // By the index of what is due: behind a long line a round reads no more than its page.
    const rows = await this.database.query<{ id: string; dispatch: number; due_at: string }>(
      `select id, dispatch, due_at::text as due_at from steps
        where ${HANDED_OVER} and due_at <= clock_timestamp() and coalesce(dispatched_at, due_at) < clock_timestamp() - $1 * interval '1 millisecond'
          and (due_at, id) > (coalesce($3::timestamptz, '-infinity'), coalesce($4::uuid, '00000000-0000-0000-0000-000000000000'))
        order by due_at, id limit $2`,
      [afterMs, batch, behind?.dueAt, behind?.stepId],
    );
    return rows.map((row) => ({ stepId: row.id, number: row.dispatch, dueAt: row.due_at }));
  }

  async isWorkWaiting(forMs: number): Promise<boolean> {
    const rows = await this.database.query(
      `select 1 from steps where ${HANDED_OVER} and dispatched_at is not null and due_at <= clock_timestamp() - $1 * interval '1 millisecond' limit 1`,
      [forMs],
    );
    return rows.length === 1;
  }

  async redispatch(items: readonly { stepId: string; number: number }[]): Promise<number> {
    const rows = await this.database.query(
      `with s as (update steps set dispatch = dispatch + 1, dispatched_at = clock_timestamp()
                    from jsonb_to_recordset($1) as lost ("stepId" uuid, number int)
                   where id = lost."stepId" and dispatch = lost.number and worker_id is null and state in ('ready', 'undoing') returning id, dispatch)
       insert into outbox (kind, payload) select 'dispatch', jsonb_build_object('stepId', id, 'number', dispatch) from s returning id`,
      [JSON.stringify(items)],
    );
    return rows.length;
  }

  async countedVmids(cluster: string): Promise<ReadonlySet<number>> {
    const rows = await this.database.query<{ vmid: number }>(
      `select m.vmid from machines m
        where m.cluster = $1 and (m.state not in ('deleted', 'failed')
           or exists (select 1 from runs r where r.machine_id = m.id and r.finished_at is null))`,
      [cluster],
    );
    return new Set(rows.map((row) => row.vmid));
  }

  async recordStray(machineId: string, effect: EffectIntent): Promise<string | undefined> {
    const { kind, version, system, key, payload } = effect;
    // Recorded before, by a process that ended before it opened the undo.
    const [recorded] = await this.database.query<{ run_id: string }>(
      `select r.id as run_id from effects e join steps s on s.id = e.step_id join runs r on r.id = s.run_id
        where e.system = $1 and e.kind = $2 and e.key = $3 and e.state <> 'undone' and r.machine_id = $4 and r.state in ('failed', 'cancelled')`,
      [system, kind, key, machineId],
    );
    if (recorded) return recorded.run_id;
    const [row] = await this.database.query<{ run_id: string }>(
      `insert into effects (id, kind, version, system, key, step_id, payload, state, confirmed_at)
       select $1, $2, $3, $4, $5, s.id, $6, 'confirmed', now()
         from runs r join steps s on s.run_id = r.id join effects e on e.step_id = s.id and e.kind = $2
        where r.machine_id = $7 and r.state in ('failed', 'cancelled')
          and not exists (select 1 from steps t join effects c on c.step_id = t.id where t.run_id = r.id and c.kind = $2 and (c.confirmed_at is not null or c.released_at is not null))
        order by r.id desc, e.seq desc limit 1
       on conflict (system, kind, key) where state <> 'undone' do nothing
       returning (select run_id from steps where id = step_id)`,
      [uuidv7(), kind, version, system, key, JSON.stringify(payload), machineId],
    );
    return row?.run_id;
  }

  async noteFound(cluster: string, { machine, run, vmid }: Mark): Promise<boolean | undefined> {
    const note = `found: a guest with our mark of machine ${machine} (run ${run}), which is not in this database; nothing deletes it`;
    return this.database.transaction(async (queries) => {
      const [known] = await queries.query('select 1 from machines where id = $1', [machine]);
      if (known) return undefined;
      const [before] = await queries.query<{ note: string | null; machine_id: string | null }>(
        `select note, machine_id from reservations where kind = 'vmid' and scope = $1 and value = $2 for update`,
        [cluster, String(vmid)],
      );
      // Promised to a machine whose clone will find it taken, and get another one.
      if (before && before.machine_id !== null) return false;
      await queries.query(
        `insert into reservations (kind, scope, value, released_at, rest_until, note)
         values ('vmid', $1, $2, now(), now() + $3 * interval '1 millisecond', $4)
         on conflict (kind, scope, value) do update set rest_until = excluded.rest_until, note = excluded.note where reservations.machine_id is null`,
        [cluster, String(vmid), this.sites.quarantineMs(cluster), note],
      );
      if (before?.note === note) return false;
      await queries.query(
        `insert into audit (actor, action, subject, detail) values ('hatchery', 'guest.found', $1, $2)`,
        [`${cluster}/${vmid}`, JSON.stringify({ machine, run })],
      );
      return true;
    });
  }

  async passOn(stepId: string): Promise<void> {
    await this.database.query(
      `update steps set dispatched_at = null where id = $1 and ${UNHELD} and due_at <= clock_timestamp()`,
      [stepId],
    );
  }

  async takePassedOn(workerId: string): Promise<string | undefined> {
    const [row] = await this.database.query<{ id: string }>(
      `with known as (select jsonb_array_elements_text(step_versions) as version from workers where id = $1),
            next as (
              select id from steps
               where ${UNHELD} and due_at <= clock_timestamp() and dispatched_at is null
                 and case state
                     when 'ready' then uses || '@' || version in (select version from known)
                     else not exists (
                       select 1 from effects e
                        where e.step_id = steps.id and not e.shared and e.state <> 'undone' and 'undo:' || e.kind || '@' || e.version not in (select version from known))
                      and not exists (
                       select 1 from effect_holders h join effects e on e.id = h.effect_id and e.shared and e.state <> 'undone'
                        where h.step_id = steps.id and h.released_at is null and 'undo:' || e.kind || '@' || e.version not in (select version from known))
                     end
               order by due_at limit 1 for update skip locked)
       update steps set dispatched_at = clock_timestamp() from next where steps.id = next.id returning steps.id`,
      [workerId],
    );
    return row?.id;
  }

  async unknownSteps(limit: number): Promise<readonly string[]> {
    const rows = await this.database.query<{ id: string }>(
      `with known as (select distinct jsonb_array_elements_text(step_versions) as version from workers where stopped_at is null),
            waiting as (select id, uses, version, state from steps
                         where state in ('ready', 'undoing') and worker_id is null and due_at < clock_timestamp() - interval '30 seconds' and exists (select from known))
       select id from waiting where state = 'ready' and uses || '@' || version not in (select version from known)
       union
       select s.id from waiting s join effects e on e.step_id = s.id and not e.shared and e.state <> 'undone'
        where s.state = 'undoing' and 'undo:' || e.kind || '@' || e.version not in (select version from known)
       union
       select s.id from waiting s join effect_holders h on h.step_id = s.id and h.released_at is null join effects e on e.id = h.effect_id and e.shared and e.state <> 'undone'
        where s.state = 'undoing' and 'undo:' || e.kind || '@' || e.version not in (select version from known)
        limit $1`,
      [limit],
    );
    return rows.map((row) => row.id);
  }
}

async function lockHeld(
  queries: Queries,
  held: HeldStep,
): Promise<{ run_id: string; machine_id: string } | undefined> {
  const [row] = await queries.query<{ run_id: string; machine_id: string }>(
    `select s.run_id, r.machine_id from steps s join runs r on r.id = s.run_id
      where s.id = $1 and s.epoch = $2 and s.worker_id = $3 for update of s`,
    [held.stepId, held.epoch, held.workerId],
  );
  return row;
}

type Intended = 'new' | 'earlier' | 'busy';

async function intendOwn(queries: Queries, held: HeldStep, intent: EffectIntent): Promise<Intended> {
  const [made] = await queries.query<{ step_id: string }>(
    `insert into effects (id, kind, version, system, key, step_id, payload) values ($1, $2, $3, $4, $5, $6, $7)
     on conflict (system, kind, key) where state <> 'undone' do nothing returning step_id`,
    [
      uuidv7(),
      intent.kind,
      intent.version,
      intent.system,
      intent.key,
      held.stepId,
      JSON.stringify(intent.payload),
    ],
  );
  if (made) return 'new';
  const [there] = await queries.query<{ step_id: string }>(
    `select step_id from effects where system = $1 and kind = $2 and key = $3 and state <> 'undone'`,
    [intent.system, intent.kind, intent.key],
  );
  return there?.step_id === held.stepId ? 'earlier' : 'busy';
}

async function intendShared(
  queries: Queries,
  held: HeldStep,
  machineId: string,
  intent: EffectIntent,
): Promise<Intended> {
  await queries.query(
    `insert into effects (id, kind, version, system, key, step_id, payload, shared) values ($1, $2, $3, $4, $5, $6, $7, true)
     on conflict (system, kind, key) where state <> 'undone' do nothing`,
    [
      uuidv7(),
      intent.kind,
      intent.version,
      intent.system,
      intent.key,
      held.stepId,
      JSON.stringify(intent.payload),
    ],
  );
  const [effect] = await queries.query<{ id: string; state: string }>(
    `select id, state from effects where system = $1 and kind = $2 and key = $3 and state <> 'undone' for update`,
    [intent.system, intent.kind, intent.key],
  );
  if (!effect || effect.state === 'undoing') return 'busy';
  const [held_] = await queries.query<{ is_new: boolean }>(
    `insert into effect_holders (effect_id, machine_id, step_id) values ($1, $2, $3)
     on conflict (effect_id, machine_id) do update set released_at = null, step_id = excluded.step_id returning (xmax = 0) as is_new`,
    [effect.id, machineId, held.stepId],
  );
  return held_!.is_new ? 'new' : 'earlier';
}
