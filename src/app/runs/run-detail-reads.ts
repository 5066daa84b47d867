import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { z } from 'zod';
import type { ErrorRecord } from '../../core/errors.js';
import type { StepState } from '../../core/states.js';
import type { Actor } from '../../engine/intake.js';
import type { RemoteNote } from '../../ports/run-store.js';
import { failureView } from '../dto/failure.js';
import { decodeCursor, toPage, type Page } from '../dto/page.dto.js';
import type { AttemptView, RunDetail } from '../dto/runs.dto.js';

/** Attempts of a step, and deeds of people, that a run shows; the rest is asked for page by page. */
const NEWEST = 10;

interface StepSql {
  readonly id: string;
  readonly key: string;
  readonly uses: string;
  readonly state: StepState;
  readonly tries: number;
  readonly percent: number | null;
  readonly due_at: Date | null;
  readonly started_at: Date | null;
  readonly finished_at: Date | null;
  readonly error: ErrorRecord | null;
  readonly epoch: number;
  readonly claimed_at: Date | null;
  readonly worker: string | null;
  readonly host: string | null;
  readonly pid: number | null;
  readonly remote: Record<string, RemoteNote>;
  readonly is_gathering: boolean;
  readonly held: { resource: string; number: number; since: string }[] | null;
  readonly wants: string[] | null;
  readonly ahead: number | null;
  readonly in_line: number | null;
  readonly attempt_count: number;
}

interface AttemptSql {
  readonly step: string;
  readonly epoch: number;
  readonly kind: 'act' | 'undo';
  readonly started_at: Date;
  readonly ended_at: Date | null;
  readonly outcome: string | null;
  readonly error: ErrorRecord | null;
  readonly warnings: string[] | null;
  readonly worker: string;
  readonly host: string | null;
  readonly pid: number | null;
}

interface EffectSql {
  readonly id: string;
  readonly kind: string;
  readonly system: string;
  readonly key: string;
  readonly step: string;
  readonly shared: boolean;
  readonly state: 'intended' | 'confirmed' | 'undoing' | 'undone';
  readonly intended_at: Date;
  readonly confirmed_at: Date | null;
  readonly undone_at: Date | null;
  readonly released_at: Date | null;
  readonly released_by: string | null;
  readonly released_why: string | null;
}

interface DeedSql {
  readonly at: Date;
  readonly actor: string;
  readonly action: string;
  readonly detail: { reason?: string; step?: string; kind?: string; key?: string };
}

type Parts = Pick<RunDetail, 'steps' | 'effects' | 'deeds'>;

/** Who waits for a slot as this step does: those of its owner that go before it, and all that want the same. */
const LINE = `from steps o where s.slots is not null and not s.is_gathering and s.worker_id is null and s.state in ('ready', 'undoing')
  and o.cluster = s.cluster and o.slots = s.slots and o.worker_id is null and not o.is_gathering and o.state in ('ready', 'undoing')`;

/** What one run is made of. A fixed number of statements, each bounded. */
@Injectable()
export class RunDetailReads {
  constructor(@InjectDataSource() private readonly source: DataSource) {}

  async of(run: { id: string; machineId: string }, actor: Actor): Promise<Parts> {
    const viewOf = viewFor(actor);
    const [steps, attempts, effects, deeds] = await Promise.all([
      this.source.query<StepSql[]>(
        `select s.id, s.key, s.uses, s.state, s.tries, s.percent, s.due_at, s.first_claimed_at as started_at, s.finished_at, s.error, s.epoch, s.claimed_at,
                s.worker_id as worker, w.host, w.pid, s.remote, s.is_gathering, s.slots as wants,
                (select json_agg(json_build_object('resource', h.resource, 'number', h.number, 'since', h.held_at) order by h.resource) from slots h where h.step_id = s.id) as held,
                (select count(*)::int ${LINE} and o.owner_id = s.owner_id and (o.rank, o.id) < (s.rank, s.id)) as ahead,
                (select count(*)::int ${LINE}) as in_line,
                (select count(*)::int from attempts a where a.step_id = s.id) as attempt_count
           from steps s left join workers w on w.id = s.worker_id where s.run_id = $1 order by s.rank desc, s.key`,
        [run.id],
      ),
      this.source.query<AttemptSql[]>(
        `select * from (
           select a.step_id as step, a.epoch, a.kind, a.started_at, a.ended_at, a.outcome, a.error, a.warnings, a.worker_id as worker, w.host, w.pid,
                  row_number() over (partition by a.step_id order by a.epoch desc) as newest
             from steps s join attempts a on a.step_id = s.id left join workers w on w.id = a.worker_id where s.run_id = $1) a
          where newest <= ${NEWEST} order by epoch`,
        [run.id],
      ),
      this.source.query<EffectSql[]>(
        `select e.id, e.kind, e.system, e.key, coalesce(s.key, '') as step, e.shared, e.state, e.intended_at, e.confirmed_at, e.undone_at,
                e.released_at, e.released_by, e.released_why
           from effects e left join steps s on s.id = e.step_id and s.run_id = $1
          where s.id is not null or e.id in (select h.effect_id from effect_holders h where h.machine_id = $2) order by e.seq`,
        [run.id, run.machineId],
      ),
      this.source.query<DeedSql[]>(
        `select at, actor, action, detail from audit where subject = $1 order by id desc limit ${NEWEST}`,
        [run.id],
      ),
    ]);
    return {
      steps: steps.map((step) =>
        stepView(
          step,
          attempts.filter((attempt) => attempt.step === step.id),
          viewOf,
        ),
      ),
      effects: effects.map(effectView),
      deeds: deeds.toReversed().map(deedView),
    };
  }

  /** All ended attempts of a run, newest first. */
  async attempts(
    runId: string,
    actor: Actor,
    query: { limit: number; cursor?: string | undefined },
  ): Promise<Page<AttemptView & { step: string }>> {
    const viewOf = viewFor(actor);
    const [at, step, epoch] = decodeCursor(
      query.cursor,
      z.tuple([z.iso.datetime(), z.string(), z.number().int()]),
    ) ?? [null, '', 0];
    const rows = await this.source.query<AttemptSql[]>(
      `select s.key as step, a.epoch, a.kind, a.started_at, a.ended_at, a.outcome, a.error, a.warnings, a.worker_id as worker, w.host, w.pid
         from steps s join attempts a on a.step_id = s.id left join workers w on w.id = a.worker_id
        where s.run_id = $1 and ($2::timestamptz is null or (date_trunc('milliseconds', a.started_at), s.key, a.epoch) < ($2, $3, $4::int))
        order by date_trunc('milliseconds', a.started_at) desc, s.key desc, a.epoch desc limit $5`,
      [runId, at, step, epoch, query.limit + 1],
    );
    return toPage(
      rows,
      query.limit,
      (row) => [row.started_at.toISOString(), row.step, row.epoch],
      (row) => ({ step: row.step, ...viewOf(attemptView(row)) }),
    );
  }

  /** Whether the run knows this task as one of its own. */
  async knowsTask(runId: string, task: string): Promise<boolean> {
    const rows = await this.source.query<object[]>(
      `select 1 from steps s where s.run_id = $1
          and (exists (select 1 from jsonb_each(s.remote) n where n.value #>> '{value,id}' = $2)
               or s.error #>> '{facts,task}' = $2
               or exists (select 1 from attempts a where a.step_id = s.id and a.error #>> '{facts,task}' = $2)) limit 1`,
      [runId, task],
    );
    return rows.length > 0;
  }
}

/** Hosts and processes are the business of admins. */
const viewFor =
  ({ role }: Actor) =>
  (attempt: AttemptView): AttemptView =>
    role === 'admin' ? attempt : { ...attempt, by: null };

const iso = (date: Date | null): string | null => date?.toISOString() ?? null;

const stepView = (
  step: StepSql,
  attempts: readonly AttemptSql[],
  viewOf: (attempt: AttemptView) => AttemptView,
): RunDetail['steps'][number] => ({
  id: step.id,
  key: step.key,
  uses: step.uses,
  state: step.state,
  tries: step.tries,
  percent: step.percent,
  dueAt: iso(step.due_at),
  startedAt: iso(step.started_at),
  finishedAt: iso(step.finished_at),
  error: failureView(step.error),
  attempts: [...attempts.map(attemptView), ...attemptUnderWay(step, attempts)].map(viewOf),
  attemptCount: step.attempt_count,
  remote: Object.entries(step.remote).map(([key, note]) => ({
    key,
    since: new Date(note.sinceMs).toISOString(),
    task: taskOf(note.value),
  })),
  slots: (step.held ?? []).map(({ since, ...slot }) => ({ ...slot, since: new Date(since).toISOString() })),
  waitsFor: waitsFor(step),
});

function waitsFor(step: StepSql): RunDetail['steps'][number]['waitsFor'] {
  if (step.is_gathering) return { what: 'group', resources: step.wants ?? [], ahead: null, inLine: null };
  const isInLine =
    step.wants !== null && step.worker === null && (step.state === 'ready' || step.state === 'undoing');
  return isInLine
    ? { what: 'slot', resources: step.wants ?? [], ahead: step.ahead, inLine: step.in_line }
    : null;
}

/** A remote task is kept as `{ id }`; anything else is no task. */
const taskOf = (value: unknown): string | null =>
  typeof value === 'object' && value !== null && 'id' in value && typeof value.id === 'string'
    ? value.id
    : null;

const processOf = ({
  worker,
  host,
  pid,
}: Pick<AttemptSql, 'host' | 'pid'> & { worker: string | null }): AttemptView['by'] =>
  worker === null || host === null || pid === null ? null : { worker, host, pid };

const attemptView = (attempt: AttemptSql): AttemptView => ({
  epoch: attempt.epoch,
  kind: attempt.kind,
  startedAt: attempt.started_at.toISOString(),
  endedAt: iso(attempt.ended_at),
  outcome: attempt.outcome,
  error: failureView(attempt.error),
  warnings: [...(attempt.warnings ?? [])],
  by: processOf(attempt),
  task: textOf(attempt.error?.facts?.['task']),
});

const textOf = (value: unknown): string | null => (typeof value === 'string' ? value : null);

/** An attempt has a row of its own from its end; until then the step tells of it. */
const attemptUnderWay = (step: StepSql, ended: readonly AttemptSql[]): AttemptView[] =>
  step.claimed_at === null || ended.some((attempt) => attempt.epoch === step.epoch)
    ? []
    : [
        {
          epoch: step.epoch,
          kind: step.state === 'undoing' ? 'undo' : 'act',
          startedAt: step.claimed_at.toISOString(),
          endedAt: null,
          outcome: null,
          error: null,
          warnings: [],
          by: processOf(step),
          task: null,
        },
      ];

const effectView = (effect: EffectSql): RunDetail['effects'][number] => ({
  id: effect.id,
  kind: effect.kind,
  system: effect.system,
  key: effect.key,
  step: effect.step,
  shared: effect.shared,
  state: effect.released_at === null ? effect.state : 'released',
  intendedAt: effect.intended_at.toISOString(),
  confirmedAt: iso(effect.confirmed_at),
  undoneAt: iso(effect.undone_at),
  released:
    effect.released_at === null
      ? null
      : {
          at: effect.released_at.toISOString(),
          by: effect.released_by ?? '',
          why: effect.released_why ?? '',
        },
});

const deedView = ({ at, actor, action, detail }: DeedSql): RunDetail['deeds'][number] => ({
  at: at.toISOString(),
  actor,
  action,
  what: detail.step ?? (detail.kind === undefined ? null : `${detail.kind} ${detail.key ?? ''}`),
  reason: detail.reason ?? null,
});
