import { Injectable } from '@nestjs/common';
import { InjectDataSource, InjectRepository } from '@nestjs/typeorm';
import { DataSource, In, type Repository, type SelectQueryBuilder } from 'typeorm';
import { z } from 'zod';
import { HatcheryError } from '../../core/errors.js';
import type { RunState } from '../../core/states.js';
import { AttemptEntity } from '../../drivers/postgres/entities/attempt.entity.js';
import { EffectEntity } from '../../drivers/postgres/entities/effect.entity.js';
import { RunEntity } from '../../drivers/postgres/entities/run.entity.js';
import { StepEntity } from '../../drivers/postgres/entities/step.entity.js';
import type { Actor } from '../../engine/intake.js';
import { failureView } from '../dto/failure.js';
import { decodeCursor, toPage, type Page } from '../dto/page.dto.js';
import { runView, type RunDetail, type RunView } from '../dto/runs.dto.js';

interface RunQuery {
  readonly limit: number;
  readonly cursor?: string | undefined;
  readonly batchId?: string | undefined;
  readonly machine?: string | undefined;
  readonly state?: RunState | undefined;
  readonly code?: string | undefined;
}

/** What stopped a run that waits for a person stands at its machine. */
const ERROR = "(case when run.state = 'parked' then machine.error else run.error end)";

@Injectable()
export class RunReads {
  constructor(
    @InjectRepository(RunEntity) private readonly runs: Repository<RunEntity>,
    @InjectDataSource() private readonly source: DataSource,
  ) {}

  /** Newest first. */
  async list(actor: Actor, query: RunQuery): Promise<Page<RunView>> {
    const after = decodeCursor(query.cursor, z.tuple([z.uuid()]));
    const select = this.visible(actor)
      .orderBy('run.id', 'DESC')
      .limit(query.limit + 1);
    if (after) select.andWhere('run.id < :after', { after: after[0] });
    if (query.batchId) select.andWhere('run.batchId = :batchId', query);
    if (query.machine) select.andWhere('run.machineId = :machine', query);
    if (query.state) select.andWhere('run.state = :state', query);
    if (query.code) select.andWhere(`${ERROR} ->> 'code' = :code`, { code: query.code });
    return toPage(await select.getMany(), query.limit, (row) => [row.id], runView);
  }

  async view(id: string, actor: Actor): Promise<RunView> {
    return runView(await this.find(id, actor));
  }

  /** The run with its steps in the order of the plan, their attempts, and what was made outside. Four statements. */
  async detail(id: string, actor: Actor): Promise<RunDetail> {
    const run = await this.find(id, actor);
    const steps = await this.source
      .getRepository(StepEntity)
      .find({ where: { runId: id }, order: { rank: 'DESC', key: 'ASC' } });
    const stepIds = steps.map((step) => step.id);
    const attempts = await this.source
      .getRepository(AttemptEntity)
      .find({ where: { stepId: In(stepIds) }, order: { epoch: 'ASC' } });
    const effects = await this.source
      .getRepository(EffectEntity)
      .createQueryBuilder('effect')
      .where('effect.stepId in (:...stepIds)', { stepIds: stepIds.length > 0 ? stepIds : [id] })
      .orWhere('effect.id in (select h.effect_id from effect_holders h where h.machine_id = :machine)', {
        machine: run.machineId,
      })
      .orderBy('effect.seq')
      .getMany();
    const keys = new Map(steps.map((step) => [step.id, step.key]));
    return {
      ...runView(run),
      steps: steps.map((step) =>
        stepView(
          step,
          attempts.filter((attempt) => attempt.stepId === step.id),
        ),
      ),
      effects: effects.map((effect) => effectView(effect, keys.get(effect.stepId) ?? '')),
    };
  }

  /** The last run of each machine of a batch, by machine. */
  async lastOfBatch(batchId: string): Promise<ReadonlyMap<string, string>> {
    const rows = await this.runs
      .createQueryBuilder('run')
      .select('run.machineId', 'machine')
      .addSelect('max(run.id::text)', 'run')
      .where('run.batchId = :batchId', { batchId })
      .groupBy('run.machineId')
      .getRawMany<{ machine: string; run: string }>();
    return new Map(rows.map((row) => [row.machine, row.run]));
  }

  private async find(id: string, actor: Actor): Promise<RunEntity> {
    const run = await this.visible(actor).andWhere('run.id = :id', { id }).getOne();
    if (!run)
      throw new HatcheryError('not-found', `Unable to find run ${id}: there is none of that id among yours`);
    return run;
  }

  private visible(actor: Actor): SelectQueryBuilder<RunEntity> {
    const query = this.runs
      .createQueryBuilder('run')
      .innerJoin('run.machine', 'machine')
      .addSelect(['machine.id', 'machine.name', 'machine.login', 'machine.error'])
      .innerJoin('run.batch', 'batch')
      .addSelect(['batch.id', 'batch.name'])
      .where('true');
    if (actor.role !== 'admin') query.andWhere('machine.ownerId = :me', { me: actor.userId });
    return query;
  }
}

type AttemptView = RunDetail['steps'][number]['attempts'][number];

const iso = (date: Date | null): string | null => date?.toISOString() ?? null;

const stepView = (step: StepEntity, attempts: readonly AttemptEntity[]): RunDetail['steps'][number] => ({
  id: step.id,
  key: step.key,
  uses: step.uses,
  state: step.state,
  tries: step.tries,
  percent: step.percent,
  dueAt: iso(step.dueAt),
  startedAt: iso(step.startedAt),
  finishedAt: iso(step.finishedAt),
  error: failureView(step.error),
  attempts: [...attempts.map(attemptView), ...attemptUnderWay(step, attempts)],
});

const attemptView = (attempt: AttemptEntity): AttemptView => ({
  epoch: attempt.epoch,
  kind: attempt.kind,
  startedAt: attempt.startedAt.toISOString(),
  endedAt: iso(attempt.endedAt),
  outcome: attempt.outcome,
  error: failureView(attempt.error),
  warnings: [...(attempt.warnings ?? [])],
});

/** An attempt has a row of its own from its end; until then the step tells of it. */
const attemptUnderWay = (step: StepEntity, ended: readonly AttemptEntity[]): AttemptView[] =>
  step.claimedAt === null || ended.some((attempt) => attempt.epoch === step.epoch)
    ? []
    : [
        {
          epoch: step.epoch,
          kind: step.state === 'undoing' ? 'undo' : 'act',
          startedAt: step.claimedAt.toISOString(),
          endedAt: null,
          outcome: null,
          error: null,
          warnings: [],
        },
      ];

const effectView = (effect: EffectEntity, step: string): RunDetail['effects'][number] => ({
  id: effect.id,
  kind: effect.kind,
  system: effect.system,
  key: effect.key,
  step,
  shared: effect.shared,
  state: effect.state,
  intendedAt: effect.intendedAt.toISOString(),
  confirmedAt: iso(effect.confirmedAt),
  undoneAt: iso(effect.undoneAt),
});
