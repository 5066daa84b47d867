import { Controller, Get, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import type { z } from 'zod';
import { Operation } from '../api/operation.js';
import { DoctorReport, LockList, ReleasedPage, SlotPage, WorkerPage } from '../dto/admin.dto.js';
import { ListQuery } from '../dto/page.dto.js';
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
