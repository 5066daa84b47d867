import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { z } from 'zod';
import type { ReleasedView } from '../dto/admin.dto.js';
import { decodeCursor, toPage, type Page } from '../dto/page.dto.js';

interface Row {
  readonly id: string;
  readonly kind: string;
  readonly system: string;
  readonly key: string;
  readonly run: string;
  readonly machine: string;
  readonly batch: string;
  readonly released_at: Date;
  readonly released_by: string;
  readonly released_why: string;
}

/** What people let go of: it stays outside, and nothing of ours removes it. */
@Injectable()
export class ReleasedReads {
  constructor(@InjectDataSource() private readonly source: DataSource) {}

  /** Newest first. */
  async list(query: {
    limit: number;
    cursor?: string | undefined;
  }): Promise<Page<z.infer<typeof ReleasedView>>> {
    const [at, id] = decodeCursor(query.cursor, z.tuple([z.iso.datetime(), z.uuid()])) ?? [null, null];
    const rows = await this.source.query<Row[]>(
      `select e.id, e.kind, e.system, e.key, r.id as run, m.name as machine, b.name as batch, e.released_at, e.released_by, e.released_why
         from effects e join steps s on s.id = e.step_id join runs r on r.id = s.run_id join machines m on m.id = r.machine_id
         join batches b on b.id = r.batch_id
        where e.released_at is not null and ($1::timestamptz is null or (date_trunc('milliseconds', e.released_at), e.id) < ($1, $2::uuid))
        order by date_trunc('milliseconds', e.released_at) desc, e.id desc limit $3`,
      [at, id, query.limit + 1],
    );
    return toPage(rows, query.limit, (row) => [row.released_at.toISOString(), row.id], toView);
  }
}

const toView = ({
  released_at: at,
  released_by: by,
  released_why: why,
  ...row
}: Row): z.infer<typeof ReleasedView> => ({ ...row, releasedAt: at.toISOString(), by, why });
