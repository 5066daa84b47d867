import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Repository, SelectQueryBuilder } from 'typeorm';
import { z } from 'zod';
import { HatcheryError } from '../../core/errors.js';
import { nextCommand, remedyOf } from '../../core/remedies.js';
import type { RunState } from '../../core/states.js';
import { RunEntity } from '../../drivers/postgres/entities/run.entity.js';
import type { Actor } from '../../engine/intake.js';
import { decodeCursor, toPage, type Page } from '../dto/page.dto.js';
import { runView, type RunDetail, type RunView } from '../dto/runs.dto.js';
import { RunDetailReads } from './run-detail-reads.js';

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
    private readonly parts: RunDetailReads,
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

  /** The cluster of the run's machine. */
  async clusterOf(id: string, actor: Actor): Promise<string> {
    return (await this.find(id, actor)).batch.cluster;
  }

  /** The run with everything that it is made of, and what to do about it. */
  async detail(id: string, actor: Actor): Promise<RunDetail> {
    const run = await this.find(id, actor);
    const parts = await this.parts.of(run, actor);
    return { ...runView(run), ...parts, advice: adviceOn(run, actor) };
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
      .addSelect(['batch.id', 'batch.name', 'batch.cluster'])
      .where('true');
    if (actor.role !== 'admin') query.andWhere('machine.ownerId = :me', { me: actor.userId });
    return query;
  }
}

/** What a run that stands still is told about its cause. */
function adviceOn({ id, state, error, machine, batch }: RunEntity, { role }: Actor): RunDetail['advice'] {
  const cause = state === 'parked' ? machine.error : state === 'failed' ? error : null;
  if (cause === null) return null;
  const { explanation, advice } = remedyOf(cause.code);
  const at = { state: state === 'parked' ? 'parked' : 'failed', reader: role, runId: id } as const;
  // Whoever reads this has the run before them already.
  const next = nextCommand(cause.code, batch.name, at);
  return {
    explanation,
    advice,
    next: next === `hatchery run show ${id}` ? `hatchery run retry ${id}` : next,
  };
}
