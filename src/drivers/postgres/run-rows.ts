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
import type { Queries } from './database.js';

/**
 * Reads a run under its row lock. The lock is a statement of its own and comes first: whoever has to wait for it sees in the statements after
 * it what the transaction before wrote. (A join in the locking statement would show that transaction's other tables as they were before it.)
 */
export async function loadRun(
  queries: Queries,
  by: { stepId: string } | { runId: string },
  planOf: (version: string, queries: Queries) => Promise<CompiledPlan>,
): Promise<LoadedRun | undefined> {
  const [run] = await queries.query<RunSql>(
    `select id, machine_id, batch_id, workflow_version_id, inputs, state, wanted, error, undo_ends_as, deaths, deaths_alone
       from runs where id = ${'stepId' in by ? '(select run_id from steps where id = $1)' : '$1'} for update`,
    ['stepId' in by ? by.stepId : by.runId],
  );
  if (!run) return undefined;
  const [machine] = await queries.query<MachineSql>(
    `select id, cluster, mac, vmid, node, state, smbios_uuid, address, link, secret_ref, error, ms(clock_timestamp()) as now_ms,
            exists (select 1 from cluster_stops s where s.cluster = machines.cluster) as is_stopped
       from machines where id = $1`,
    [run.machine_id],
  );
  const steps = await queries.query<StepSql>(
    `select id, key, uses, version, rank, state, ms(due_at) as due_ms, slots, dispatch, epoch, worker_id, tries, ms(first_claimed_at) as first_ms,
            input, output, remote, error, percent
       from steps where run_id = $1 order by rank desc, key`,
    [run.id],
  );
  const ids = steps.map((step) => step.id);
  const effects = await queries.query<EffectSql>(
    `select e.id, e.seq, e.step_id, e.kind, e.version, e.system, e.key, e.shared, e.payload, e.state, ms(e.intended_at) as intended_ms
       from effects e where e.step_id = any ($1::uuid[]) and not e.shared and e.state <> 'undone'
     union all
     select e.id, e.seq, h.step_id, e.kind, e.version, e.system, e.key, e.shared, e.payload, e.state, ms(e.intended_at)
       from effect_holders h join effects e on e.id = h.effect_id
      where h.step_id = any ($1::uuid[]) and h.released_at is null and e.shared and e.state <> 'undone'`,
    [ids],
  );
  const attempts = effects.some((effect) => effect.state === 'intended')
    ? await queries.query<AttemptSql>(
        `select step_id, outcome, error ->> 'code' as code, ms(max(ended_at)) as ended_ms
           from attempts where step_id = any ($1::uuid[]) and kind = 'act' and ended_at is not null group by step_id, outcome, code`,
        [ids],
      )
    : [];
  return {
    plan: await planOf(run.workflow_version_id, queries),
    run: runRow(run),
    machine: machineRow(machine!),
    steps: steps.map(stepRow),
    effects: effects.map(effectRow),
    attemptEnds: attempts.map((attempt): AttemptEnd => ({
      stepId: attempt.step_id,
      outcome: attempt.outcome,
      code: attempt.code ?? undefined,
      endedAtMs: attempt.ended_ms,
    })),
    isClusterStopped: machine!.is_stopped,
    nowMs: machine!.now_ms,
  };
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
  deaths_alone: number;
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
  now_ms: number;
  is_stopped: boolean;
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
  dispatch: number;
  epoch: number;
  worker_id: string | null;
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
  deathsAlone: row.deaths_alone,
});

const machineRow = (row: MachineSql): MachineRow => ({
  id: row.id,
  cluster: row.cluster,
  mac: row.mac,
  vmid: row.vmid,
  node: row.node,
  state: row.state,
  smbiosUuid: row.smbios_uuid ?? undefined,
  address: row.address ?? undefined,
  link: row.link ?? undefined,
  secretRef: row.secret_ref ?? undefined,
  error: row.error ?? undefined,
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
  dispatch: row.dispatch,
  epoch: row.epoch,
  workerId: row.worker_id ?? undefined,
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
