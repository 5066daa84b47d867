import { Controller, Get, Headers, Query, Res } from '@nestjs/common';
import { ApiHeader, ApiProduces, ApiTags } from '@nestjs/swagger';
import type { Response } from 'express';
import type { z } from 'zod';
import { Operation } from '../api/operation.js';
import { Me, type SignedIn } from '../auth/access.js';
import { EventsQuery, EventView, lastEventId } from '../dto/events.dto.js';
import { EventStream } from './event-stream.js';

@ApiTags('events')
@Controller('api/v1/events')
export class EventsController {
  constructor(private readonly stream: EventStream) {}

  @Get()
  @Operation('events', {
    summary: 'Everything that happens to what you may see',
    access: ['admin', 'teacher'],
    answer: EventView,
  })
  @ApiProduces('text/event-stream')
  @ApiHeader({ name: 'Last-Event-ID', required: false })
  events(
    @Me() user: SignedIn,
    @Query({ schema: EventsQuery }) query: z.infer<typeof EventsQuery>,
    @Headers('last-event-id') header: string | undefined,
    @Res() response: Response,
  ): Promise<void> {
    return this.stream.open({ user, batch: undefined, after: lastEventId(header, query.after) }, response);
  }
}
