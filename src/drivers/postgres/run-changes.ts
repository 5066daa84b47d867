import { isMachineSettled } from '../../core/states.js';
import type { LoadedRun, RunChanges, StepRow } from '../../ports/run-store.js';
import type { Statement } from './database.js';

/** How long a released VMID rests, in milliseconds; names and MACs are free at once. */
export type QuarantineOf = (cluster: string) => number;

/** The steps of a run as it was read: what did not change since is not written again. */
export type StepsBefore = ReadonlyMap<string, StepRow>;

/** What the model changed of one run. */
export interface Written {
  readonly at: LoadedRun;
  readonly before: StepsBefore;
  readonly changes: RunChanges;
}

/** Whether there is anything to write. */
export const isAnything = ({ changes }: Written): boolean =>
  changes.run ||
  changes.machine ||
  changes.steps.size > 0 ||
  [changes.ended, changes.events, changes.freed, changes.judged, changes.audits].some(
    (list) => list.length > 0,
  );

/**
 * Writes what the model changed of runs that are locked, and grows their versions. One statement writes all tables; its parts see the rows as they were
 * before it. What has to see more than that comes in statements behind it.
 */
export function writesOf(runs: readonly Written[], quarantineOf: QuarantineOf): readonly Statement[] {
  const writes = [statementOf(runs, 'locked', [])];
  for (const { at, changes } of runs)
    if (changes.released) writes.push(...releasesOf(at, quarantineOf(at.machine.cluster)));
  for (const { batch } of settledOf(runs)) writes.push(...settlesOf(batch));
  return writes;
}

/** What the statement of `writeInHand` answers. */
export interface WrittenInHand {
  /** Ids of the runs that were still as they were: the others were not written. */
  readonly written: readonly string[];
  /** Batches whose last machine may have come to rest with it. */
  readonly atRest?: readonly string[];
}

/** Writes runs in hand, those that are still as they were: one statement, whose row is a `WrittenInHand`. */
export const writeInHand = (runs: readonly Written[]): Statement =>
  statementOf(runs, 'in-hand', settledOf(runs));

/** One statement of the parts, one for each table, that have something to write. Parts must not touch the same row. */
function statementOf(runs: readonly Written[], how: Shape['how'], atRest: readonly object[]): Statement {
  const parts: Part[] = [];
  const values = [JSON.stringify(runs.map(runToWrite))];
  const isPlain = runs.every(goesOnPlainly);
  for (const part of isPlain ? PLAIN_PARTS : PARTS) {
    const rows = runs.flatMap((written) =>
      part.rows(written).map((row) => ({ ...row, run: written.at.run.id })),
    );
    if (rows.length === 0) continue;
    parts.push(part);
    values.push(JSON.stringify(rows));
  }
  if (atRest.length > 0) values.push(JSON.stringify(atRest));
  const shape = { how, isPlain, isOne: runs.length === 1, parts, asksForRest: atRest.length > 0 };
  const key = [how, isPlain, shape.isOne, ...parts.map(({ name }) => name), shape.asksForRest].join(' ');
  let text = texts.get(key);
  if (text === undefined) texts.set(key, (text = textOf(shape)));
  return { text, values };
}

/** Texts by their shapes: few, and each a few thousand characters. */
const texts = new Map<string, string>();

interface Shape {
  /** The runs are locked by the transaction, or in the hands of this process and maybe no more as they were. */
  readonly how: 'locked' | 'in-hand';
  readonly isPlain: boolean;
  readonly isOne: boolean;
  readonly parts: readonly Part[];
  readonly asksForRest: boolean;
}

function textOf({ how, isPlain, isOne, parts, asksForRest }: Shape): string {
  const ifRun: IfRun = isOne
    ? () => 'exists (select from run)'
    : (run) => `exists (select from run where run.id = ${run})`;
  const others = parts.map(({ name, text }, index) => `,\n${name} as (${text(`$${index + 2}`, ifRun)})`);
  const atRest = asksForRest ? `, ${AT_REST(`$${parts.length + 2}`)} as "atRest"` : '';
  const set = isPlain ? PLAIN_RUN_SET : RUN_SET;
  const columns = isPlain ? PLAIN_RUN_COLUMNS : RUN_COLUMNS;
  return `with run as (${set}\n from jsonb_to_recordset($1::jsonb) as c ${columns}\n where ${RUN[how]('$1')}\nreturning r.id)${others.join('')}\nselect array(select id from run) as written${atRest}`;
}

/**
 * Whether nothing but a worker's own business changed: a step ended, or is claimed by who ended the one before it. Most writes are such ones, and each
 * column that a statement does not set is an expression that Postgres need not prepare.
 */
function goesOnPlainly({ at, before, changes }: Written): boolean {
  return (
    !changes.run &&
    changes.dispatches.length === 0 &&
    at.steps.every(
      (step) => !changes.steps.has(step.id) || (isInNoLine(step) && isInNoLine(before.get(step.id)!)),
    )
  );
}

const isInNoLine = (step: StepRow): boolean =>
  step.dueAtMs === undefined && step.slots === undefined && step.groupKey === undefined && !step.isGathering;

/** Batches of which machines come to rest, with these machines. */
function settledOf(runs: readonly Written[]): readonly { batch: string; machines: readonly string[] }[] {
  const machines = new Map<string, string[]>();
  for (const { at, changes } of runs) {
    if (!changes.machine || !isMachineSettled(at.machine.state)) continue;
    machines.set(at.run.batchId, [...(machines.get(at.run.batchId) ?? []), at.machine.id]);
  }
  return [...machines]
    .map(([batch, some]) => ({ batch, machines: some }))
    .toSorted((one, other) => (one.batch < other.batch ? -1 : 1));
}

/** Other machines are seen as they were: of two that settle in the same moment neither may find its batch at rest. */
const AT_REST = (p: string): string => `array(
  select (b.value ->> 'batch')::uuid from jsonb_array_elements(${p}::jsonb) as b
   where ${isAtRest(`(b.value ->> 'batch')::uuid`, `not b.value -> 'machines' ? m.id::text`)})`;

/**
 * SQL: no machine of a batch is at work, of those `m` that count. They are asked from the end: without an order Postgres expects to meet one
 * at once wherever it begins, and reads all that are at rest.
 */
export const isAtRest = (batch: string, counts = 'true'): string =>
  `(select m.id from machines m where m.batch_id = ${batch} and m.state in ('reserved', 'creating', 'deleting') and ${counts}
     order by m.row desc limit 1) is null`;

/** SQL: the run was written. Every part but the first writes for those only. */
type IfRun = (run: string) => string;

interface Part {
  readonly name: string;
  /** `p` is the place of its rows, as jsonb. */
  readonly text: (p: string, ifRun: IfRun) => string;
  readonly rows: (written: Written) => readonly object[];
}

/**
 * Keys as an array: Postgres takes a list of unknown length for a hundred rows and would read a whole table to find two of them; of an array
 * it expects ten, and asks the index.
 */
const keysOf = (p: string, name = 'id'): string =>
  `array(select (listed.value ->> '${name}')::uuid from jsonb_array_elements(${p}::jsonb) as listed)`;

const RUN_COLUMNS =
  '(id uuid, state text, wanted text, error jsonb, undo_ends_as text, deaths int, deaths_among int, deaths_alone int, version int, cluster text, uses text[])';
const RUN_SET = `
update runs r set version = r.version + 1, state = c.state, wanted = c.wanted, error = c.error, undo_ends_as = c.undo_ends_as, deaths = c.deaths, deaths_among = c.deaths_among, deaths_alone = c.deaths_alone,
       started_at = coalesce(r.started_at, case when c.state <> 'queued' then clock_timestamp() end),
       finished_at = case when c.state in ('done', 'failed', 'cancelled') then coalesce(r.finished_at, clock_timestamp()) end`;
const PLAIN_RUN_COLUMNS = '(id uuid, version int, cluster text, uses text[])';
const PLAIN_RUN_SET = 'update runs r set version = r.version + 1';

/** Which runs the first part writes; `p` is the place of their rows. One in hand whose row somebody has locked is about to change: nobody waits for it. */
const RUN = {
  locked: (): string => 'r.id = c.id',
  'in-hand': (p: string): string => `r.id = c.id and r.version = c.version and r.wanted = 'done'
   and r.id in (select k.id from runs k where k.id = any (${keysOf(p)}) for update skip locked)
   and not exists (select from cluster_stops t where t.cluster = c.cluster)
   and not exists (select from steps p where p.state = 'parked' and p.uses = any (c.uses))`,
} as const;

function runToWrite({ at: { run, machine, steps, parkedUses } }: Written): object {
  return {
    id: run.id,
    state: run.state,
    wanted: run.wanted,
    error: run.error,
    undo_ends_as: run.undoEndsAs,
    deaths: run.deaths,
    deaths_among: run.deathsAmong,
    deaths_alone: run.deathsAlone,
    version: run.version,
    cluster: machine.cluster,
    uses: [...new Set(steps.map((step) => step.uses))].filter((one) => !parkedUses.has(one)),
  };
}

/** What a claim and an outcome write. */
const STEP_SET = `
       epoch = c.epoch, worker_id = c.worker, claimed_at = from_ms(c.claimed),
       tries = c.tries, first_claimed_at = from_ms(c.first), input = coalesce(c.input, s.input), output = coalesce(c.output, s.output),
       error = c.error, percent = c.percent,
       finished_at = case when c.state in ('done', 'failed', 'skipped', 'undone') then coalesce(s.finished_at, clock_timestamp()) end`;
const STEP_COLUMNS =
  'epoch int, worker uuid, claimed double precision, tries int, first double precision, input jsonb, output jsonb, error jsonb, percent int';

const STEPS: Part = {
  name: 'steps',
  text: (p, ifRun) => `
update steps s set state = c.state, due_at = from_ms(c.due), slots = c.slots, group_key = c.group_key, is_gathering = c.is_gathering, dispatch = greatest(s.dispatch, c.dispatch),
       dispatched_at = case when c.is_dispatched then greatest(clock_timestamp(), from_ms(c.due)) else s.dispatched_at end, ${STEP_SET}
  from jsonb_to_recordset(${p}::jsonb) as c (id uuid, run uuid, state text, due double precision, slots text[], group_key text, is_gathering boolean, dispatch int, is_dispatched boolean, ${STEP_COLUMNS})
 where s.id = c.id and s.id = any (${keysOf(p)}) and ${ifRun('c.run')}`,
  rows: stepsToWrite,
};

const PLAIN_STEPS: Part = {
  ...STEPS,
  text: (p, ifRun) => `
update steps s set state = c.state, ${STEP_SET}
  from jsonb_to_recordset(${p}::jsonb) as c (id uuid, run uuid, state text, ${STEP_COLUMNS})
 where s.id = c.id and s.id = any (${keysOf(p)}) and ${ifRun('c.run')}`,
};

const PARTS: readonly Part[] = [
  STEPS,
  {
    name: 'machine',
    text: (p, ifRun) => `
update machines m set state = c.state, node = c.node, smbios_uuid = c.smbios_uuid, address = coalesce(c.address, m.address), link = c.link, secret_ref = c.secret_ref, error = c.error,
       phone_home_address = coalesce(c.told, m.phone_home_address), phone_home_hash = case when c.state not in ('failed', 'deleted') then m.phone_home_hash end,
       ready_at = coalesce(m.ready_at, case when c.state = 'ready' then clock_timestamp() end),
       deleted_at = case when c.state = 'deleted' then coalesce(m.deleted_at, clock_timestamp()) end
  from jsonb_to_recordset(${p}::jsonb) as c (id uuid, run uuid, state text, node text, smbios_uuid text, address text, link text, secret_ref uuid, error jsonb, told text)
 where m.id = c.id and m.id = any (${keysOf(p)}) and ${ifRun('c.run')}`,
    rows: ({ at: { machine }, changes }) =>
      changes.machine
        ? [
            {
              id: machine.id,
              state: machine.state,
              node: machine.node,
              smbios_uuid: machine.incarnation,
              address: machine.address,
              link: machine.link,
              secret_ref: machine.secretRef,
              told: machine.phoneHome?.address,
              error: machine.error,
            },
          ]
        : [],
  },
  {
    name: 'ended',
    text: (p, ifRun) => `
insert into attempts (step_id, epoch, kind, worker_id, started_at, ended_at, outcome, error, warnings)
select step_id, epoch, kind, worker_id, from_ms(started), clock_timestamp(), outcome, error, warnings
  from jsonb_to_recordset(${p}::jsonb) as e (run uuid, step_id uuid, epoch int, kind text, worker_id uuid, started double precision, outcome text, error jsonb, warnings jsonb)
 where ${ifRun('e.run')}
on conflict (step_id, epoch) do update set ended_at = excluded.ended_at, outcome = excluded.outcome, error = excluded.error, warnings = excluded.warnings`,
    rows: ({ changes }) =>
      changes.ended.map((e) => ({
        step_id: e.stepId,
        epoch: e.epoch,
        kind: e.kind,
        worker_id: e.workerId,
        started: e.startedAtMs,
        outcome: e.outcome,
        error: e.error,
        warnings: e.warnings,
      })),
  },
  {
    name: 'confirmed',
    text: (p, ifRun) => `
update effects set state = 'confirmed', confirmed_at = now()
  from jsonb_to_recordset(${p}::jsonb) as c (id uuid, run uuid)
 where effects.id = c.id and effects.id = any (${keysOf(p)}) and effects.state = 'intended' and ${ifRun('c.run')}`,
    rows: ({ at, changes }) =>
      at.effects
        .filter((effect) => effect.state === 'intended' && changes.confirmed.includes(effect.stepId))
        .map(({ id }) => ({ id })),
  },
  {
    name: 'there',
    text: (p, ifRun) => `
update effects set state = 'confirmed', confirmed_at = coalesce(confirmed_at, now())
  from jsonb_to_recordset(${p}::jsonb) as c (id uuid, run uuid)
 where effects.id = c.id and effects.id = any (${keysOf(p)}) and ${ifRun('c.run')}`,
    rows: ({ changes }) => judgedAs(changes, 'there').map(({ effectId }) => ({ id: effectId })),
  },
  {
    name: 'let_go',
    text: (p, ifRun) => `
update effects e set state = 'undone', released_at = now(), released_by = c.by, released_why = c.why
  from jsonb_to_recordset(${p}::jsonb) as c (id uuid, run uuid, machine uuid, by text, why text)
 where e.id = c.id and e.id = any (${keysOf(p)}) and ${ifRun('c.run')}
   and not exists (select 1 from effect_holders h where h.effect_id = e.id and h.machine_id <> c.machine and h.released_at is null)`,
    rows: letGoToWrite,
  },
  {
    name: 'no_holder',
    text: (p, ifRun) => `
update effect_holders h set released_at = now() from jsonb_to_recordset(${p}::jsonb) as c (id uuid, run uuid, machine uuid)
 where h.effect_id = c.id and h.machine_id = c.machine and h.effect_id = any (${keysOf(p)}) and ${ifRun('c.run')}`,
    rows: letGoToWrite,
  },
  {
    name: 'audited',
    text: (p, ifRun) => `
insert into audit (actor, action, subject, detail)
select actor, action, subject, detail from jsonb_to_recordset(${p}::jsonb) as a (run uuid, actor text, action text, subject text, detail jsonb)
 where ${ifRun('a.run')}`,
    rows: ({ changes }) => changes.audits,
  },
  {
    name: 'freed',
    text: (p, ifRun) => `
delete from slots using jsonb_to_recordset(${p}::jsonb) as f (step uuid, run uuid)
 where step_id = f.step and step_id = any (${keysOf(p, 'step')}) and ${ifRun('f.run')}`,
    rows: ({ changes }) => [...new Set(changes.freed)].map((step) => ({ step })),
  },
  {
    name: 'dispatched',
    text: (p, ifRun) => `
insert into outbox (kind, payload, due_at)
select 'dispatch', jsonb_build_object('stepId', d.step, 'number', d.number), from_ms(d.due)
  from jsonb_to_recordset(${p}::jsonb) as d (run uuid, step uuid, number int, due double precision)
 where ${ifRun('d.run')}`,
    rows: ({ changes }) =>
      changes.dispatches.map((d) => ({ step: d.stepId, number: d.number, due: d.dueAtMs })),
  },
  {
    name: 'told',
    text: (p, ifRun) => `
insert into events (type, batch, machine, run, step, state, percent, code)
select e.type, e.batch, e.machine, e.run, e.step, e.state, e.percent, e.code
  from jsonb_to_recordset(${p}::jsonb) as e (type text, batch uuid, machine uuid, run uuid, step text, state text, percent int, code text)
 where ${ifRun('e.run')}`,
    rows: ({ at, changes }) =>
      changes.events.map((event) => ({ ...event, batch: at.run.batchId, machine: at.machine.id })),
  },
];

const PLAIN_PARTS = PARTS.map((part) => (part === STEPS ? PLAIN_STEPS : part));

function judgedAs(changes: RunChanges, as: RunChanges['judged'][number]['as']): RunChanges['judged'] {
  return changes.judged.filter((one) => one.as === as);
}

function letGoToWrite({ at, changes }: Written): readonly object[] {
  return judgedAs(changes, 'let-go').map(({ effectId, by, why }) => ({
    id: effectId,
    machine: at.machine.id,
    by,
    why,
  }));
}

function stepsToWrite({ at, before, changes }: Written): readonly object[] {
  const dispatched = new Set(changes.dispatches.map((dispatch) => dispatch.stepId));
  return at.steps
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
    });
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
export const settlesOf = (batchId: string): readonly Statement[] => [
  { text: 'select 1 from batches where id = $1 for update', values: [batchId] },
  {
    text: `
with at_rest as (
       select b.id, b.name, b.is_open, b.notify_url, exists (select 1 from machines m where m.batch_id = b.id and m.state <> 'deleted') as is_present
         from batches b
        where b.id = $1 and ${isAtRest('b.id')}),
     closed as (
       update batches b set is_open = false, settled_at = coalesce(b.settled_at, clock_timestamp()),
              deleted_at = case when not r.is_present then coalesce(b.deleted_at, clock_timestamp())
                                when exists (select 1 from batches o where o.name = b.name and o.id <> b.id and o.deleted_at is null) then b.deleted_at end
         from at_rest r where b.id = r.id)
insert into outbox (kind, payload) select 'notify', jsonb_build_object('batchId', id) from at_rest where is_open and notify_url is not null`,
    values: [batchId],
  },
];
