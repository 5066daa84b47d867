import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Controller, Get, Res } from '@nestjs/common';
import { ApiProduces, ApiTags } from '@nestjs/swagger';
import type { Response } from 'express';
import { Operation } from '../api/operation.js';
import { ExportRow } from '../dto/export.dto.js';
import { ExportReads } from './export-reads.js';

@ApiTags('site')
@Controller('api/v1/export')
export class ExportController {
  constructor(private readonly reads: ExportReads) {}

  @Get()
  @Operation('exportAll', {
    summary: 'Machines, runs, effects and reservations of one moment, one JSON object per line',
    access: ['admin'],
    answer: ExportRow,
  })
  @ApiProduces('application/x-ndjson')
  async all(@Res() response: Response): Promise<void> {
    const pages = this.reads.pages();
    // What goes wrong before the first row is still answered as any other error.
    const first = await pages.next();
    response.type('application/x-ndjson; charset=utf-8');
    const lines = async function* (): AsyncGenerator<string, void, void> {
      for (let page = first; page.done !== true; page = await pages.next())
        yield page.value.map((row) => `${JSON.stringify(row)}\n`).join('');
    };
    try {
      await pipeline(Readable.from(lines()), response);
    } catch {
      // The reader sees by the missing last row that it was cut off, whoever's fault it was.
      response.destroy();
    } finally {
      await pages.return();
    }
  }
}
