import { Controller, Get, Inject, Param, Post, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import type { z } from 'zod';
import type { Intake } from '../../engine/intake.js';
import { Operation } from '../api/operation.js';
import { Me, type SignedIn } from '../auth/access.js';
import { BatchReads } from '../batches/batch-reads.js';
import { ListRunsQuery, RunDetail, RunPage, RunView } from '../dto/runs.dto.js';
import { id as anId } from '../dto/text.js';
import { INTAKE } from '../tokens.js';
import { RunReads } from './run-reads.js';

@ApiTags('runs')
@Controller('api/v1/runs')
export class RunsController {
  constructor(
    private readonly reads: RunReads,
    private readonly batches: BatchReads,
    @Inject(INTAKE) private readonly intake: Intake,
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

  @Post(':id/retry')
  @Operation('retryRun', {
    summary: 'Makes the failed or parked steps of a run due again',
    access: ['admin', 'teacher'],
    status: 202,
    answer: RunView,
  })
  async retry(@Me() me: SignedIn, @Param('id', { schema: anId }) id: string): Promise<RunView> {
    await this.reads.view(id, me);
    await this.intake.retryRun(id, me);
    return this.reads.view(id, me);
  }
}
