import { Controller, Get, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import type { z } from 'zod';
import { Operation } from '../api/operation.js';
import { ReleasedPage } from '../dto/admin.dto.js';
import { ListQuery } from '../dto/page.dto.js';
import { ReleasedReads } from './released-reads.js';

/** What whoever runs the service looks at when something stands still. */
@ApiTags('admin')
@Controller('api/v1/admin')
export class AdminController {
  constructor(private readonly releasedReads: ReleasedReads) {}

  @Get('released')
  @Operation('listReleased', {
    summary: 'What people let go of: it stays outside, and nothing removes it',
    access: ['admin'],
    answer: ReleasedPage,
  })
  released(
    @Query({ schema: ListQuery }) query: z.infer<typeof ListQuery>,
  ): Promise<z.infer<typeof ReleasedPage>> {
    return this.releasedReads.list(query);
  }
}
