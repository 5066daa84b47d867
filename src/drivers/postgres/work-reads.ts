import type { CompiledPlan } from '../../plan/compiled-plan.js';
import type { LiveRun, WorkReads } from '../../ports/work-reads.js';
import type { Database } from './database.js';

interface LiveSql {
  readonly run: string;
  readonly machine: string;
  readonly batch: string;
  readonly owner: string;
  readonly blueprint: string;
  readonly workflow: string;
  readonly steps: readonly (readonly [key: string, sinceMs: number | null, notBeforeMs: number])[];
}

export class PostgresWorkReads implements WorkReads {
  private readonly plans = new Map<string, CompiledPlan>();

  constructor(private readonly database: Database) {}

  async live(cluster: string): Promise<readonly LiveRun[]> {
    // A step that was tried before begins anew with its next try; one that looks again and again has been at it since its first claim.
    const rows = await this.database.query<LiveSql>(
      `select r.id as run, r.machine_id as machine, r.batch_id as batch, m.owner_id as owner, v.name as blueprint, r.workflow_version_id as workflow, s.steps
         from runs r join machines m on m.id = r.machine_id join batches b on b.id = r.batch_id join blueprint_versions v on v.id = b.blueprint_version_id
        cross join lateral (
          select coalesce(jsonb_agg(jsonb_build_array(key,
                   case when state = 'pending' or slots is not null then null when tries > 0 then 0
                        else greatest(0, ms(clock_timestamp()) - ms(least(dispatched_at, first_claimed_at))) end,
                   coalesce(greatest(0, ms(due_at) - ms(clock_timestamp())), 0))), '[]') as steps
            from steps where run_id = r.id and state in ('pending', 'ready', 'running')) as s
        where r.finished_at is null and r.wanted = 'done' and m.cluster = $1 and m.state in ('reserved', 'creating')
        order by r.id`,
      [cluster],
    );
    return rows.map(({ run, machine, batch, owner, blueprint, workflow, steps }) => ({
      runId: run,
      machineId: machine,
      batchId: batch,
      ownerId: owner,
      blueprint,
      workflowVersion: workflow,
      steps: new Map(
        steps.map(([key, sinceMs, notBeforeMs]) => [key, { sinceMs: sinceMs ?? undefined, notBeforeMs }]),
      ),
    }));
  }

  async inputs(runIds: readonly string[]): Promise<ReadonlyMap<string, Record<string, unknown>>> {
    if (runIds.length === 0) return new Map();
    const rows = await this.database.query<{ id: string; inputs: Record<string, unknown> }>(
      'select id, inputs from runs where id = any ($1::uuid[])',
      [runIds],
    );
    return new Map(rows.map(({ id, inputs }) => [id, inputs]));
  }

  async workflow(version: string): Promise<CompiledPlan> {
    const known = this.plans.get(version);
    if (known) return known;
    const [row] = await this.database.query<{ plan: CompiledPlan }>(
      'select plan from workflow_versions where id = $1',
      [version],
    );
    this.plans.set(version, row!.plan);
    return row!.plan;
  }
}
