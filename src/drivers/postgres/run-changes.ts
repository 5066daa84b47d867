import { v7 as uuidv7 } from 'uuid';
import { isMachineSettled } from '../../core/states.js';
import type { LoadedRun, RunChanges, StepRow } from '../../ports/run-store.js';
import type { Queries, Statement } from './database.js';

/** How long a released VMID rests, in milliseconds; names and MACs are free at once. */
export type QuarantineOf = (cluster: string) => number;

/** What the steps of a run had when it was read: what did not change since is not written again. */
export type StepsBefore = ReadonlyMap<string, Pick<StepRow, 'input' | 'output'>>;

/**
 * Writes what the model changed: one statement whose parts, one for each table, are those that have something to write. Parts see the rows as they
 * were before the statement and must not touch the same row. What has to see more than that comes in statements behind it.
 */
export function writesOf(
  at: LoadedRun,
  before: StepsBefore,
  changes: RunChanges,
  quarantineOf: QuarantineOf,
): readonly Statement[] {
  const parts = PARTS.flatMap((part) => {
    const value = part.value({ at, before, changes });
    return value === undefined ? [] : [{ ...part, value }];
  });
  const writes: Statement[] = [];
  if (parts.length > 0)
    writes.push({
      text: `with ${parts.map((part, index) => `${part.name} as (${part.text(`$${index + 1}`)})`).join(',\n')}\nselect`,
      values: parts.map((part) => JSON.stringify(part.value)),
    });
  if (changes.released) writes.push(...releasesOf(at, quarantineOf(at.machine.cluster)));
  if (changes.machine && isMachineSettled(at.machine.state)) writes.push(...settlesOf(at.run.batchId));
  return writes;
}

interface Written {
  readonly at: LoadedRun;
  readonly before: StepsBefore;
  readonly changes: RunChanges;
}

interface Part {
  readonly name: string;
  /** `p` is the place of its value, as jsonb. */
  readonly text: (p: string) => string;
  /** `undefined` = nothing to write. */
  readonly value: (written: Written) => unknown;
}

/** A list, or nothing when it is empty. */
const some = <T>(rows: readonly T[]): readonly T[] | undefined => (rows.length === 0 ? undefined : rows);

/**
 * Keys as an array: Postgres takes a list of unknown length for a hundred rows and would read a whole table to find two of them; of an array
 * it expects ten, and asks the index.
 */
const listOf = (p: string): string =>
  `array(select listed.value::uuid from jsonb_array_elements_text(${p}::jsonb) as listed)`;
const keysOf = (p: string): string =>
  `array(select (row ->> 'id')::uuid from jsonb_array_elements(${p}::jsonb) as row)`;

const PARTS: readonly Part[] = [
  {
    name: 'steps',
    text: (p) => `
update steps s set state = c.state, due_at = from_ms(c.due), slots = c.slots, group_key = c.group_key, is_gathering = c.is_gathering, dispatch = c.dispatch,
       dispatched_at = case when c.is_dispatched then greatest(clock_timestamp(), from_ms(c.due)) else s.dispatched_at end,
       epoch = c.epoch, worker_id = c.worker, claimed_at = from_ms(c.claimed),
       tries = c.tries, first_claimed_at = from_ms(c.first), input = coalesce(c.input, s.input), output = coalesce(c.output, s.output),
       error = c.error, percent = c.percent,
       finished_at = case when c.state in ('done', 'failed', 'skipped', 'undone') then coalesce(s.finished_at, clock_timestamp()) end
  from jsonb_to_recordset(${p}::jsonb) as c (id uuid, state text, due double precision, slots text[], group_key text, is_gathering boolean, dispatch int, is_dispatched boolean, epoch int,
       worker uuid, claimed double precision, tries int, first double precision, input jsonb, output jsonb, error jsonb, percent int)
 where s.id = c.id and s.id = any (${keysOf(p)})`,
    value: stepsToWrite,
  },
  {
    name: 'run',
    text: (p) => `
update runs r set state = c.state, wanted = c.wanted, error = c.error, undo_ends_as = c.undo_ends_as, deaths = c.deaths, deaths_alone = c.deaths_alone,
       started_at = coalesce(r.started_at, case when c.state <> 'queued' then clock_timestamp() end),
       finished_at = case when c.state in ('done', 'failed', 'cancelled') then coalesce(r.finished_at, clock_timestamp()) end
  from jsonb_to_record(${p}::jsonb) as c (id uuid, state text, wanted text, error jsonb, undo_ends_as text, deaths int, deaths_alone int)
 where r.id = c.id`,
    value: ({ at: { run }, changes }) =>
      changes.run
        ? {
            id: run.id,
            state: run.state,
            wanted: run.wanted,
            error: run.error,
            undo_ends_as: run.undoEndsAs,
            deaths: run.deaths,
            deaths_alone: run.deathsAlone,
          }
        : undefined,
  },
  {
    name: 'machine',
    text: (p) => `
update machines m set state = c.state, node = c.node, smbios_uuid = c.smbios_uuid, address = coalesce(c.address, m.address), link = c.link, secret_ref = c.secret_ref, error = c.error,
       phone_home_address = coalesce(c.told, m.phone_home_address), phone_home_hash = case when c.state not in ('failed', 'deleted') then m.phone_home_hash end,
       ready_at = coalesce(m.ready_at, case when c.state = 'ready' then clock_timestamp() end),
       deleted_at = case when c.state = 'deleted' then coalesce(m.deleted_at, clock_timestamp()) end
  from jsonb_to_record(${p}::jsonb) as c (id uuid, state text, node text, smbios_uuid text, address text, link text, secret_ref uuid, error jsonb, told text)
 where m.id = c.id`,
    value: ({ at: { machine }, changes }) =>
      changes.machine
        ? {
            id: machine.id,
            state: machine.state,
            node: machine.node,
            smbios_uuid: machine.smbiosUuid,
            address: machine.address,
            link: machine.link,
            secret_ref: machine.secretRef,
            told: machine.phoneHome?.address,
            error: machine.error,
          }
        : undefined,
  },
  {
    name: 'ended',
    text: (p) => `
insert into attempts (id, step_id, epoch, kind, worker_id, started_at, ended_at, outcome, error, warnings)
select id, step_id, epoch, kind, worker_id, from_ms(started), clock_timestamp(), outcome, error, warnings
  from jsonb_to_recordset(${p}::jsonb) as e (id uuid, step_id uuid, epoch int, kind text, worker_id uuid, started double precision, outcome text, error jsonb, warnings jsonb)
on conflict (step_id, epoch) do update set ended_at = excluded.ended_at, outcome = excluded.outcome, error = excluded.error, warnings = excluded.warnings`,
    value: ({ changes }) =>
      some(
        changes.ended.map((e) => ({
          id: uuidv7(),
          step_id: e.stepId,
          epoch: e.epoch,
          kind: e.kind,
          worker_id: e.workerId,
          started: e.startedAtMs,
          outcome: e.outcome,
          error: e.error,
          warnings: e.warnings,
        })),
      ),
  },
  {
    name: 'confirmed',
    text: (p) => `
update effects set state = 'confirmed', confirmed_at = now()
 where id = any (${listOf(p)}) and state = 'intended'`,
    value: ({ at, changes }) =>
      some(
        at.effects
          .filter((effect) => effect.state === 'intended' && changes.confirmed.includes(effect.stepId))
          .map((effect) => effect.id),
      ),
  },
  {
    name: 'there',
    text: (p) => `
update effects set state = 'confirmed', confirmed_at = coalesce(confirmed_at, now())
 where id = any (${listOf(p)})`,
    value: ({ changes }) => some(judgedAs(changes, 'there').map((one) => one.effectId)),
  },
  {
    name: 'let_go',
    text: (p) => `
update effects e set state = 'undone', released_at = now(), released_by = c.by, released_why = c.why
  from jsonb_to_recordset(${p}::jsonb) as c (id uuid, machine uuid, by text, why text)
 where e.id = c.id and e.id = any (${keysOf(p)})
   and not exists (select 1 from effect_holders h where h.effect_id = e.id and h.machine_id <> c.machine and h.released_at is null)`,
    value: letGoToWrite,
  },
  {
    name: 'no_holder',
    text: (p) => `
update effect_holders h set released_at = now() from jsonb_to_recordset(${p}::jsonb) as c (id uuid, machine uuid)
 where h.effect_id = c.id and h.machine_id = c.machine and h.effect_id = any (${keysOf(p)})`,
    value: letGoToWrite,
  },
  {
    name: 'audited',
    text: (p) => `
insert into audit (actor, action, subject, detail)
select actor, action, subject, detail from jsonb_to_recordset(${p}::jsonb) as a (actor text, action text, subject text, detail jsonb)`,
    value: ({ changes }) => some(changes.audits),
  },
  {
    name: 'freed',
    text: (p) => `delete from slots where step_id = any (${listOf(p)})`,
    value: ({ changes }) => some(changes.freed),
  },
  {
    name: 'dispatched',
    text: (p) => `
insert into outbox (kind, payload, due_at)
select 'dispatch', jsonb_build_object('stepId', d.step, 'number', d.number), from_ms(d.due)
  from jsonb_to_recordset(${p}::jsonb) as d (step uuid, number int, due double precision)`,
    value: ({ changes }) =>
      some(changes.dispatches.map((d) => ({ step: d.stepId, number: d.number, due: d.dueAtMs }))),
  },
  {
    name: 'told',
    text: (p) => `
insert into events (type, batch, machine, run, step, state, percent, code)
select e.type, e.batch, e.machine, e.run, e.step, e.state, e.percent, e.code
  from jsonb_to_recordset(${p}::jsonb) as e (type text, batch uuid, machine uuid, run uuid, step text, state text, percent int, code text)`,
    value: ({ at, changes }) =>
      some(
        changes.events.map((event) => ({
          ...event,
          batch: at.run.batchId,
          machine: at.machine.id,
          run: at.run.id,
        })),
      ),
  },
];

const judgedAs = (changes: RunChanges, as: RunChanges['judged'][number]['as']): RunChanges['judged'] =>
  changes.judged.filter((one) => one.as === as);

function letGoToWrite({ at, changes }: Written): unknown {
  return some(
    judgedAs(changes, 'let-go').map(({ effectId, by, why }) => ({
      id: effectId,
      machine: at.machine.id,
      by,
      why,
    })),
  );
}

function stepsToWrite({ at, before, changes }: Written): unknown {
  const dispatched = new Set(changes.dispatches.map((dispatch) => dispatch.stepId));
  return some(
    at.steps
      .filter((step) => changes.steps.has(step.id))
      .map((step) => {
        const { input, output } = before.get(step.id)!;
        return {
          id: step.id,
          state: step.state,
          due: step.dueAtMs,
          slots: step.slots,
          group_key: step.groupKey,
          is_gathering: step.isGathering,
          dispatch: step.dispatch,
          is_dispatched: dispatched.has(step.id),
          epoch: step.epoch,
          worker: step.workerId,
          claimed: step.claimedAtMs,
          tries: step.tries,
          first: step.firstClaimedAtMs,
          input: step.input === input ? undefined : step.input,
          output: step.output === output ? undefined : step.output,
          error: step.error,
          percent: step.percent,
        };
      }),
  );
}

const releasesOf = (at: LoadedRun, quarantineMs: number): readonly Statement[] => [
  {
    text: `
update reservations set released_at = now(), rest_until = case when kind = 'vmid' then now() + $2::double precision * interval '1 millisecond' else now() end
 where machine_id = $1 and released_at is null`,
    values: [at.machine.id, String(quarantineMs)],
  },
  { text: 'delete from secrets where machine_id = $1', values: [at.machine.id] },
];

/**
 * Closes a batch whose machines have all come to rest; the summary goes into the outbox with it, so it is posted once.
 * The batch's row is locked first, by a statement of its own: of two machines that settle at the same moment the second sees the first.
 * A deleted batch whose machine came back (a guest found after its end, whose undo parked) is shown again, unless its name has a new owner.
 */
const settlesOf = (batchId: string): readonly Statement[] => [
  { text: 'select 1 from batches where id = $1 for update', values: [batchId] },
  {
    text: `
with at_rest as (
       select b.id, b.name, b.is_open, b.notify_url, exists (select 1 from machines m where m.batch_id = b.id and m.state <> 'deleted') as is_present
         from batches b
        where b.id = $1 and not exists (select 1 from machines m where m.batch_id = b.id and m.state in ('reserved', 'creating', 'deleting'))),
     closed as (
       update batches b set is_open = false, settled_at = coalesce(b.settled_at, clock_timestamp()),
              deleted_at = case when not r.is_present then coalesce(b.deleted_at, clock_timestamp())
                                when exists (select 1 from batches o where o.name = b.name and o.id <> b.id and o.deleted_at is null) then b.deleted_at end
         from at_rest r where b.id = r.id)
insert into outbox (kind, payload) select 'notify', jsonb_build_object('batchId', id) from at_rest where is_open and notify_url is not null`,
    values: [batchId],
  },
];

/** As the end of a machine does it. */
export async function settleBatch(queries: Queries, batchId: string): Promise<void> {
  for (const { text, values } of settlesOf(batchId)) await queries.query(text, values);
}
