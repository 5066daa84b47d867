import { Body, Controller, Get, Inject, Param, Post, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import type { z } from 'zod';
import { HatcheryError } from '../../core/errors.js';
import type { Intake } from '../../engine/intake.js';
import type { RunHandles } from '../../engine/run-handles.js';
import { plainCall } from '../../ports/call.js';
import type { Hypervisors } from '../../ports/hypervisor.js';
import { Operation } from '../api/operation.js';
import { Me, type SignedIn } from '../auth/access.js';
import { BatchReads } from '../batches/batch-reads.js';
import { ListQuery } from '../dto/page.dto.js';
import {
  AdoptedView,
  AttemptPage,
  ListRunsQuery,
  RunDetail,
  RunPage,
  RunView,
  WithReason,
  StepKey,
  TaskLogQuery,
  TaskLogView,
} from '../dto/runs.dto.js';
import { id as anId } from '../dto/text.js';
import { HYPERVISORS, INTAKE, RUN_HANDLES } from '../tokens.js';
import { RunDetailReads } from './run-detail-reads.js';
import { RunReads } from './run-reads.js';

const TASK_LOG_MS = 20_000;

@ApiTags('runs')
@Controller('api/v1/runs')
export class RunsController {
  constructor(
    private readonly reads: RunReads,
    private readonly batches: BatchReads,
    private readonly details: RunDetailReads,
    @Inject(HYPERVISORS) private readonly hypervisors: Hypervisors,
    @Inject(INTAKE) private readonly intake: Intake,
    @Inject(RUN_HANDLES) private readonly handles: RunHandles,
  ) {}

  @Get()
  @Operation('listRuns', { summary: 'Runs, newest first', access: ['admin', 'teacher'], answer: RunPage })
  async list(
    @Me() me: SignedIn,
    @Query({ schema: ListRunsQuery }) query: z.infer<typeof ListRunsQuery>,
  ): Promise<z.infer<typeof RunPage>> {
    const { batch, ...rest } = query;
    const batchId = batch === undefined ? undefined : (await this.batches.find(batch, me)).id;
    return this.reads.list(me, { ...rest, batchId });
  }

  @Get(':id')
  @Operation('getRun', {
    summary: 'One run with its steps, attempts and effects',
    access: ['admin', 'teacher'],
    answer: RunDetail,
  })
  get(@Me() me: SignedIn, @Param('id', { schema: anId }) id: string): Promise<RunDetail> {
    return this.reads.detail(id, me);
  }

  @Get(':id/attempts')
  @Operation('listAttempts', {
    summary: 'All ended attempts of a run, newest first',
    access: ['admin', 'teacher'],
    answer: AttemptPage,
  })
  async attempts(
    @Me() me: SignedIn,
    @Param('id', { schema: anId }) id: string,
    @Query({ schema: ListQuery }) query: z.infer<typeof ListQuery>,
  ): Promise<z.infer<typeof AttemptPage>> {
    await this.reads.view(id, me);
    return this.details.attempts(id, me, query);
  }

  @Get(':id/task-log')
  @Operation('getTaskLog', {
    summary: 'The end of the log of one of the run’s remote tasks, read on the cluster now',
    access: ['admin'],
    answer: TaskLogView,
  })
  async taskLog(
    @Me() me: SignedIn,
    @Param('id', { schema: anId }) id: string,
    @Query({ schema: TaskLogQuery }) { task }: z.infer<typeof TaskLogQuery>,
  ): Promise<z.infer<typeof TaskLogView>> {
    const cluster = await this.reads.clusterOf(id, me);
    if (!(await this.details.knowsTask(id, task)))
      throw new HatcheryError(
        'not-found',
        `Unable to read the log of task ${task}: run ${id} knows no such task`,
        {
          hint: `Its tasks: hatchery run show ${id}`,
        },
      );
    const call = plainCall(AbortSignal.timeout(TASK_LOG_MS));
    const { lines, total } = await this.hypervisors.get(cluster).taskLog({ id: task }, call);
    return { task, lines: [...lines], total };
  }

  @Post(':id/retry')
  @Operation('retryRun', {
    summary: 'Makes the parked steps of a run due again; a failed machine is made anew',
    access: ['admin', 'teacher'],
    status: 202,
    answer: RunView,
  })
  async retry(@Me() me: SignedIn, @Param('id', { schema: anId }) id: string): Promise<RunView> {
    await this.reads.view(id, me);
    return this.reads.view(await this.intake.retryRun(id, me), me);
  }

  @Post(':id/cancel')
  @Operation('cancelRun', {
    summary: 'Stops a run and undoes what it made; of a ready machine: deletes it',
    access: ['admin', 'teacher'],
    status: 202,
    answer: RunView,
  })
  async cancel(@Me() me: SignedIn, @Param('id', { schema: anId }) id: string): Promise<RunView> {
    await this.reads.view(id, me);
    await this.handles.cancel(id, me);
    return this.reads.view(id, me);
  }

  @Post(':id/steps/:step/skip')
  @Operation('skipStep', {
    summary: 'Goes on without a parked step, where nothing that follows needs it',
    access: ['admin'],
    status: 202,
    answer: RunView,
  })
  async skip(
    @Me() me: SignedIn,
    @Param('id', { schema: anId }) id: string,
    @Param('step', { schema: StepKey }) step: string,
    @Body({ schema: WithReason }) { reason }: z.infer<typeof WithReason>,
  ): Promise<RunView> {
    await this.handles.skip(id, step, reason, me);
    return this.reads.view(id, me);
  }

  @Post(':id/effects/:effect/release')
  @Operation('releaseEffect', {
    summary: 'Lets go of something made outside: it stays there, and nothing removes it',
    access: ['admin'],
    status: 202,
    answer: RunView,
  })
  async release(
    @Me() me: SignedIn,
    @Param('id', { schema: anId }) id: string,
    @Param('effect', { schema: anId }) effect: string,
    @Body({ schema: WithReason }) { reason }: z.infer<typeof WithReason>,
  ): Promise<RunView> {
    await this.handles.release(id, effect, reason, me);
    return this.reads.view(id, me);
  }

  @Post(':id/effects/:effect/adopt')
  @Operation('adoptEffect', {
    summary: 'Takes what is outside as the thing that an effect names, when a read proves that it is ours',
    access: ['admin'],
    answer: AdoptedView,
  })
  adopt(
    @Me() me: SignedIn,
    @Param('id', { schema: anId }) id: string,
    @Param('effect', { schema: anId }) effect: string,
    @Body({ schema: WithReason }) { reason }: z.infer<typeof WithReason>,
  ): Promise<z.infer<typeof AdoptedView>> {
    return this.handles.adopt(id, effect, reason, me);
  }
}
