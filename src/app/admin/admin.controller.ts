import { Controller, Get, Inject, Param, Post, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import type { z } from 'zod';
import { HatcheryError } from '../../core/errors.js';
import type { Workers } from '../../ports/workers.js';
import { Operation } from '../api/operation.js';
import { Me, type SignedIn } from '../auth/access.js';
import { DoctorReport, LockList, ReleasedPage, SlotPage, WorkerPage } from '../dto/admin.dto.js';
import { ListQuery } from '../dto/page.dto.js';
import { id as anId } from '../dto/text.js';
import { WORKERS } from '../tokens.js';
import { Doctor } from './doctor.js';
import { HeldReads } from './held-reads.js';
import { ReleasedReads } from './released-reads.js';

type PageQuery = z.infer<typeof ListQuery>;

/** What whoever runs the service looks at when something stands still. */
@ApiTags('admin')
@Controller('api/v1/admin')
export class AdminController {
  constructor(
    private readonly doctor: Doctor,
    private readonly held: HeldReads,
    private readonly releasedReads: ReleasedReads,
    @Inject(WORKERS) private readonly hands: Workers,
  ) {}

  @Get('doctor')
  @Operation('doctor', {
    summary: 'Looks at everything that has to work: a verdict and a remedy for each',
    access: ['admin'],
    answer: DoctorReport,
  })
  async look(): Promise<z.infer<typeof DoctorReport>> {
    const findings = await this.doctor.look();
    return { verdict: findings[0]?.verdict ?? 'ok', at: new Date().toISOString(), findings };
  }

  @Get('locks')
  @Operation('listLocks', {
    summary: 'Locks that are held now: who, why, since when',
    access: ['admin'],
    answer: LockList,
  })
  async locks(): Promise<z.infer<typeof LockList>> {
    return { items: await this.held.locks(), nextCursor: null };
  }

  @Get('slots')
  @Operation('listSlots', {
    summary: 'Slots that are held now: for which machine, since when, by whom',
    access: ['admin'],
    answer: SlotPage,
  })
  slots(@Query({ schema: ListQuery }) query: PageQuery): Promise<z.infer<typeof SlotPage>> {
    return this.held.slots(query);
  }

  @Get('workers')
  @Operation('listWorkers', {
    summary: 'Workers of now and of the last hour, newest first',
    access: ['admin'],
    answer: WorkerPage,
  })
  workers(@Query({ schema: ListQuery }) query: PageQuery): Promise<z.infer<typeof WorkerPage>> {
    return this.held.workers(query);
  }

  @Post('workers/:id/drain')
  @Operation('drainWorker', {
    summary: 'Asks a worker to take no new step and to end when those that it has are over',
    access: ['admin'],
    status: 204,
  })
  async drain(@Me() me: SignedIn, @Param('id', { schema: anId }) id: string): Promise<void> {
    if (await this.hands.drain(id, me.login)) return;
    throw new HatcheryError(
      'not-applicable',
      `Unable to drain worker ${id}: no such worker is alive, or it was asked already`,
      { hint: 'Those that live: hatchery admin workers' },
    );
  }

  @Get('released')
  @Operation('listReleased', {
    summary: 'What people let go of: it stays outside, and nothing removes it',
    access: ['admin'],
    answer: ReleasedPage,
  })
  released(@Query({ schema: ListQuery }) query: PageQuery): Promise<z.infer<typeof ReleasedPage>> {
    return this.releasedReads.list(query);
  }
}
