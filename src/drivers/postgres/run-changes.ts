import { v7 as uuidv7 } from 'uuid';
import type { LoadedRun, RunChanges } from '../../ports/run-store.js';
import type { Queries } from './database.js';

/** How long a released VMID rests, in milliseconds; names and MACs are free at once. */
export type QuarantineOf = (cluster: string) => number;

/** Writes what the model changed: at most one statement per table, whatever the number of steps. */
export async function writeChanges(
  queries: Queries,
  at: LoadedRun,
  changes: RunChanges,
  quarantineOf: QuarantineOf,
): Promise<void> {
  if (changes.steps.size > 0) await writeSteps(queries, at, changes);
  if (changes.run) await writeRun(queries, at);
  if (changes.machine) await writeMachine(queries, at);
  if (changes.begun.length > 0)
    await queries.query(
      `insert into attempts (id, step_id, epoch, kind, worker_id)
       select id, step_id, epoch, kind, worker_id from jsonb_to_recordset($1) as a (id uuid, step_id uuid, epoch int, kind text, worker_id uuid)`,
      [
        JSON.stringify(
          changes.begun.map((a) => ({
            id: uuidv7(),
            step_id: a.stepId,
            epoch: a.epoch,
            kind: a.kind,
            worker_id: a.workerId,
          })),
        ),
      ],
    );
  if (changes.ended.length > 0)
    await queries.query(
      `update attempts a set ended_at = clock_timestamp(), outcome = e.outcome, error = e.error, warnings = e.warnings
         from jsonb_to_recordset($1) as e (step_id uuid, epoch int, outcome text, error jsonb, warnings jsonb)
        where a.step_id = e.step_id and a.epoch = e.epoch and a.ended_at is null`,
      [
        JSON.stringify(
          changes.ended.map((e) => ({
            step_id: e.stepId,
            epoch: e.epoch,
            outcome: e.outcome,
            error: e.error ?? null,
            warnings: e.warnings ?? null,
          })),
        ),
      ],
    );
  if (
    changes.confirmed.length > 0 &&
    at.effects.some((effect) => changes.confirmed.includes(effect.stepId) && effect.state === 'intended')
  )
    await queries.query(
      `update effects set state = 'confirmed', confirmed_at = now() where id = any ($1::uuid[]) and state = 'intended'`,
      [at.effects.filter((effect) => changes.confirmed.includes(effect.stepId)).map((effect) => effect.id)],
    );
  if (changes.freed.length > 0)
    await queries.query('delete from slots where step_id = any ($1::uuid[])', [changes.freed]);
  if (changes.dispatches.length > 0)
    await queries.query(
      `insert into outbox (kind, payload, due_at)
       select 'dispatch', jsonb_build_object('stepId', d.step, 'number', d.number), from_ms(d.due)
         from jsonb_to_recordset($1) as d (step uuid, number int, due double precision)`,
      [JSON.stringify(changes.dispatches.map((d) => ({ step: d.stepId, number: d.number, due: d.dueAtMs })))],
    );
  if (changes.events.length > 0) await writeEvents(queries, at, changes);
  if (changes.released) await releaseMachine(queries, at, quarantineOf(at.machine.cluster));
  if (changes.machine && ['ready', 'parked', 'failed', 'deleted'].includes(at.machine.state))
    await settleBatch(queries, at.run.batchId);
}

async function writeSteps(queries: Queries, at: LoadedRun, changes: RunChanges): Promise<void> {
  const dispatched = new Set(changes.dispatches.map((dispatch) => dispatch.stepId));
  const rows = at.steps
    .filter((step) => changes.steps.has(step.id))
    .map((step) => ({
      id: step.id,
      state: step.state,
      due: step.dueAtMs ?? null,
      slots: step.slots ?? null,
      dispatch: step.dispatch,
      is_dispatched: dispatched.has(step.id),
      epoch: step.epoch,
      worker: step.workerId ?? null,
      tries: step.tries,
      first: step.firstClaimedAtMs ?? null,
      input: step.input ?? null,
      output: step.output ?? null,
      error: step.error ?? null,
      percent: step.percent ?? null,
    }));
  await queries.query(
    `update steps s set state = c.state, due_at = from_ms(c.due), slots = c.slots, dispatch = c.dispatch,
            dispatched_at = case when c.is_dispatched then greatest(clock_timestamp(), from_ms(c.due)) else s.dispatched_at end,
            epoch = c.epoch, worker_id = c.worker, claimed_at = case when c.worker is null then null else coalesce(s.claimed_at, clock_timestamp()) end,
            tries = c.tries, first_claimed_at = from_ms(c.first), input = c.input, output = c.output, error = c.error, percent = c.percent,
            finished_at = case when c.state in ('done', 'failed', 'skipped', 'undone') then coalesce(s.finished_at, clock_timestamp()) end
       from jsonb_to_recordset($1) as c (id uuid, state text, due double precision, slots text[], dispatch int, is_dispatched boolean, epoch int,
            worker uuid, tries int, first double precision, input jsonb, output jsonb, error jsonb, percent int)
      where s.id = c.id`,
    [JSON.stringify(rows)],
  );
}

async function writeRun(queries: Queries, at: LoadedRun): Promise<void> {
  const { run } = at;
  await queries.query(
    `update runs set state = $2, wanted = $3, error = $4, undo_ends_as = $5, deaths = $6, deaths_alone = $7,
            started_at = coalesce(started_at, case when $2 <> 'queued' then clock_timestamp() end),
            finished_at = case when $2 in ('done', 'failed', 'cancelled') then coalesce(finished_at, clock_timestamp()) end
      where id = $1`,
    [run.id, run.state, run.wanted, run.error ?? null, run.undoEndsAs ?? null, run.deaths, run.deathsAlone],
  );
}

async function writeMachine(queries: Queries, at: LoadedRun): Promise<void> {
  const { machine } = at;
  await queries.query(
    `update machines set state = $2, node = $3, smbios_uuid = $4, address = $5, link = $6, secret_ref = $7, error = $8,
            ready_at = coalesce(ready_at, case when $2 = 'ready' then clock_timestamp() end),
            deleted_at = case when $2 = 'deleted' then coalesce(deleted_at, clock_timestamp()) end
      where id = $1`,
    [
      machine.id,
      machine.state,
      machine.node,
      machine.smbiosUuid ?? null,
      machine.address ?? null,
      machine.link ?? null,
      machine.secretRef ?? null,
      machine.error ?? null,
    ],
  );
}

async function writeEvents(queries: Queries, at: LoadedRun, changes: RunChanges): Promise<void> {
  await queries.query(
    `insert into events (type, batch, machine, run, step, state, percent, code)
     select e.type, $2, $3, $4, e.step, e.state, e.percent, e.code
       from jsonb_to_recordset($1) as e (type text, step text, state text, percent int, code text)`,
    [JSON.stringify(changes.events), at.run.batchId, at.machine.id, at.run.id],
  );
}

async function releaseMachine(queries: Queries, at: LoadedRun, quarantineMs: number): Promise<void> {
  await queries.query(
    `update reservations set released_at = now(), rest_until = case when kind = 'vmid' then now() + $2 * interval '1 millisecond' else now() end
      where machine_id = $1 and released_at is null`,
    [at.machine.id, quarantineMs],
  );
  await queries.query('delete from secrets where machine_id = $1', [at.machine.id]);
}

/**
 * Closes a batch whose machines have all come to rest; the summary goes into the outbox with it, so it is posted once.
 * The batch's row is locked first: of two machines that settle at the same moment the second sees the first.
 * A deleted batch whose machine came back (a guest found after its end, whose undo parked) is shown again, unless its name has a new owner.
 */
export async function settleBatch(queries: Queries, batchId: string): Promise<void> {
  const [batch] = await queries.query<{ is_open: boolean; notify_url: string | null }>(
    'select is_open, notify_url from batches where id = $1 for update',
    [batchId],
  );
  const [left] = await queries.query<{ working: boolean; present: boolean }>(
    `select coalesce(bool_or(state in ('reserved', 'creating', 'deleting')), false) as working, coalesce(bool_or(state <> 'deleted'), false) as present
       from machines where batch_id = $1`,
    [batchId],
  );
  if (!batch || !left || left.working) return;
  await queries.query(
    `update batches b set is_open = false, settled_at = coalesce(settled_at, clock_timestamp()),
            deleted_at = case when not $2 then coalesce(deleted_at, clock_timestamp())
                              when exists (select 1 from batches o where o.name = b.name and o.id <> b.id and o.deleted_at is null) then deleted_at end
      where id = $1`,
    [batchId, left.present],
  );
  if (batch.is_open && batch.notify_url !== null)
    await queries.query(
      `insert into outbox (kind, payload) values ('notify', jsonb_build_object('batchId', $1::uuid))`,
      [batchId],
    );
}
