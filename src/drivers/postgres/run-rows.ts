import type { ErrorCode, ErrorRecord } from '../../core/errors.js';
import type { CompiledPlan } from '../../plan/compiled-plan.js';
import type {
  AttemptEnd,
  EffectRow,
  LoadedRun,
  MachineRow,
  RemoteNote,
  RunRow,
  StepRow,
} from '../../ports/run-store.js';
import { systemClock } from '../system-clock.js';
import type { Row, Statement } from './database.js';

/**
 * Reads a run under its row lock. The lock is a statement of its own and comes first: whoever has to wait for it sees in the statement after
 * it what the transaction before wrote. (A join in the locking statement would show that transaction's other tables as they were before it.)
 * `known`: versions of workflows whose plans need not be read.
 */
export function readsOf(
  by: { stepId: string } | { runId: string },
  known: readonly string[],
): readonly Statement[] {
  const [of, id] = 'stepId' in by ? (['step', by.stepId] as const) : (['run', by.runId] as const);
  return [
    {
      text: `select 1 from runs where id = ${RUN_OF[of]} for update`,
      values: [id],
    },
    {
      text: READ_RUN.replace('$run', RUN_OF[of]),
      values: [id, JSON.stringify(known)],
    },
  ];
}

/** Reads the runs of steps without locking them: what is written of them has to say from which version on. */
export const looksAt = (stepIds: readonly string[], known: readonly string[]): Statement => ({
  text: READ_RUN.replace(
    '= $run',
    // Of a list in JSON Postgres never knows the length: it keeps to one plan, where of an array it would make a new one each time.
    '= any (array(select s.run_id from steps s where s.id = any (array(select listed.value::uuid from jsonb_array_elements_text($1::jsonb) as listed))))',
  ),
  values: [JSON.stringify(stepIds), JSON.stringify(known)],
});

const RUN_OF = { step: '(select run_id from steps where id = $1)', run: '$1::uuid' };

/**
 * One row with everything. Inputs of steps that are not open are left out: they are long, and follow from the plan. Shared effects are those that the
 * run's steps hold; attempts count only while an effect is not certain.
 */
const READ_RUN = `
select (select row_to_json(x) from (select r.id, r.machine_id, r.batch_id, r.workflow_version_id, r.inputs, r.state, r.wanted, r.error, r.undo_ends_as,
               r.deaths, r.deaths_among, r.deaths_alone, r.version) as x) as run,
       (select row_to_json(x) from (select m.id, m.cluster, m.mac, m.vmid, m.node, m.state, m.smbios_uuid, m.address, m.link, m.secret_ref, m.error,
         encode(m.phone_home_hash, 'hex') as phone_home_hash, m.phone_home_address) as x) as machine,
       ms(clock_timestamp()) as now_ms,
       (select json_agg(s order by s.rank desc, s.key) from (
          select id, key, uses, version, rank, state, ms(due_at) as due_ms, slots, group_key, is_gathering, dispatch, epoch, worker_id, ms(claimed_at) as claimed_ms, tries, ms(first_claimed_at) as first_ms,
                 case when state in ('ready', 'running', 'parked') then input end as input, output, remote, error, percent
            from steps where run_id = r.id) as s) as steps,
       (select json_agg(e) from (
          select e.id, e.seq, e.step_id, e.kind, e.version, e.system, e.key, e.shared, e.payload, e.state, ms(e.intended_at) as intended_ms
            from steps s join effects e on e.step_id = s.id where s.run_id = r.id and not e.shared and e.state <> 'undone'
          union all
          select e.id, e.seq, h.step_id, e.kind, e.version, e.system, e.key, e.shared, e.payload, e.state, ms(e.intended_at)
            from steps s join effect_holders h on h.step_id = s.id join effects e on e.id = h.effect_id
           where s.run_id = r.id and h.released_at is null and e.shared and e.state <> 'undone') as e) as effects,
       case when exists (select 1 from steps s join effects e on e.step_id = s.id where s.run_id = r.id and e.state = 'intended')
              or exists (select 1 from steps s join effect_holders h on h.step_id = s.id join effects e on e.id = h.effect_id
                          where s.run_id = r.id and h.released_at is null and e.state = 'intended')
            then (select json_agg(a) from (
                    select a.step_id, a.outcome, a.error ->> 'code' as code, ms(max(a.ended_at)) as ended_ms
                      from steps s join attempts a on a.step_id = s.id
                     where s.run_id = r.id and a.kind = 'act' and a.ended_at is not null group by a.step_id, a.outcome, code) as a) end as attempts,
       exists (select 1 from cluster_stops c where c.cluster = m.cluster) as is_stopped,
       array(select distinct uses from steps where state = 'parked') as parked,
       (select plan from workflow_versions v where v.id = r.workflow_version_id and not $2::jsonb ? v.id) as plan
  from runs r join machines m on m.id = r.machine_id
 where r.id = $run`;

/** What `readsOf` was answered; `planOf` knows the plans of the versions that were known, and learns the others. */
export function loadedRun(
  answers: readonly Row[][],
  planOf: (version: string, read: CompiledPlan | null) => CompiledPlan,
): LoadedRun | undefined {
  const [row] = answers[1]!;
  return row && runOf(row, planOf);
}

export function runOf(
  read: Row,
  planOf: (version: string, read: CompiledPlan | null) => CompiledPlan,
): LoadedRun {
  const row = read as unknown as ReadSql;
  return {
    plan: planOf(row.run.workflow_version_id, row.plan),
    run: runRow(row.run),
    machine: machineRow(row.machine),
    steps: (row.steps ?? []).map(stepRow),
    effects: (row.effects ?? []).map(effectRow),
    attemptEnds: (row.attempts ?? []).map((attempt): AttemptEnd => ({
      stepId: attempt.step_id,
      outcome: attempt.outcome,
      code: attempt.code ?? undefined,
      endedAtMs: attempt.ended_ms,
    })),
    isClusterStopped: row.is_stopped,
    parkedUses: new Set(row.parked),
    nowMs: row.now_ms,
    readAtMs: systemClock.monotonicMs(),
  };
}

/** The same run a moment later, for a change that may not be written: the rows are its own. Time is never ahead of the database's. */
export function copied(inHand: LoadedRun): LoadedRun {
  const readAtMs = systemClock.monotonicMs();
  return {
    ...inHand,
    run: { ...inHand.run },
    machine: { ...inHand.machine },
    steps: inHand.steps.map((step) => ({ ...step })),
    nowMs: inHand.nowMs + readAtMs - inHand.readAtMs,
    readAtMs,
  };
}

interface ReadSql {
  run: RunSql;
  machine: MachineSql;
  now_ms: number;
  steps: StepSql[] | null;
  effects: EffectSql[] | null;
  attempts: AttemptSql[] | null;
  is_stopped: boolean;
  parked: string[];
  plan: CompiledPlan | null;
}

interface RunSql {
  id: string;
  machine_id: string;
  batch_id: string;
  workflow_version_id: string;
  inputs: Record<string, unknown>;
  state: RunRow['state'];
  wanted: RunRow['wanted'];
  error: ErrorRecord | null;
  undo_ends_as: 'failed' | 'cancelled' | null;
  deaths: number;
  deaths_among: number;
  deaths_alone: number;
  version: number;
}

interface MachineSql {
  id: string;
  cluster: string;
  mac: string;
  vmid: number;
  node: string;
  state: MachineRow['state'];
  smbios_uuid: string | null;
  address: string | null;
  link: string | null;
  secret_ref: string | null;
  error: ErrorRecord | null;
  phone_home_hash: string | null;
  phone_home_address: string | null;
}

interface StepSql {
  id: string;
  key: string;
  uses: string;
  version: number;
  rank: number;
  state: StepRow['state'];
  due_ms: number | null;
  slots: string[] | null;
  group_key: string | null;
  is_gathering: boolean;
  dispatch: number;
  epoch: number;
  worker_id: string | null;
  claimed_ms: number | null;
  tries: number;
  first_ms: number | null;
  input: unknown;
  output: unknown;
  remote: Record<string, RemoteNote>;
  error: ErrorRecord | null;
  percent: number | null;
}

interface EffectSql {
  id: string;
  seq: number;
  step_id: string;
  kind: string;
  version: number;
  system: string;
  key: string;
  shared: boolean;
  payload: unknown;
  state: EffectRow['state'];
  intended_ms: number;
}

interface AttemptSql {
  step_id: string;
  outcome: AttemptEnd['outcome'];
  code: ErrorCode | null;
  ended_ms: number;
}

const runRow = (row: RunSql): RunRow => ({
  id: row.id,
  machineId: row.machine_id,
  batchId: row.batch_id,
  workflowVersion: row.workflow_version_id,
  inputs: row.inputs,
  state: row.state,
  wanted: row.wanted,
  error: row.error ?? undefined,
  undoEndsAs: row.undo_ends_as ?? undefined,
  deaths: row.deaths,
  deathsAmong: row.deaths_among,
  deathsAlone: row.deaths_alone,
  version: row.version,
});

const machineRow = (row: MachineSql): MachineRow => ({
  id: row.id,
  cluster: row.cluster,
  mac: row.mac,
  vmid: row.vmid,
  node: row.node,
  state: row.state,
  // Older builds, which may work beside this one, know the column by the name of what virtual machines have.
  incarnation: row.smbios_uuid ?? undefined,
  address: row.address ?? undefined,
  link: row.link ?? undefined,
  secretRef: row.secret_ref ?? undefined,
  error: row.error ?? undefined,
  phoneHome:
    row.phone_home_hash === null
      ? undefined
      : { hash: row.phone_home_hash, address: row.phone_home_address ?? undefined },
});

const stepRow = (row: StepSql): StepRow => ({
  id: row.id,
  key: row.key,
  uses: row.uses,
  version: row.version,
  rank: row.rank,
  state: row.state,
  dueAtMs: row.due_ms ?? undefined,
  slots: row.slots ?? undefined,
  groupKey: row.group_key ?? undefined,
  isGathering: row.is_gathering,
  dispatch: row.dispatch,
  epoch: row.epoch,
  workerId: row.worker_id ?? undefined,
  claimedAtMs: row.claimed_ms ?? undefined,
  tries: row.tries,
  firstClaimedAtMs: row.first_ms ?? undefined,
  input: row.input,
  output: row.output,
  remote: row.remote,
  error: row.error ?? undefined,
  percent: row.percent ?? undefined,
});

const effectRow = (row: EffectSql): EffectRow => ({
  id: row.id,
  seq: row.seq,
  stepId: row.step_id,
  kind: row.kind,
  version: row.version,
  system: row.system,
  key: row.key,
  shared: row.shared,
  payload: row.payload,
  state: row.state,
  intendedAtMs: row.intended_ms,
});
