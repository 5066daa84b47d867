import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { z } from 'zod';
import type { Locks } from '../../ports/locks.js';
import type { LockView, SlotView, WorkerView } from '../dto/admin.dto.js';
import { decodeCursor, toPage, type Page } from '../dto/page.dto.js';
import { LOCKS } from '../tokens.js';

interface PageQuery {
  readonly limit: number;
  readonly cursor?: string | undefined;
}

type SlotRow = Omit<z.infer<typeof SlotView>, 'since' | 'by'> & {
  readonly held_at: Date;
  readonly worker: string | null;
  readonly host: string | null;
  readonly pid: number | null;
};

interface WorkerRow {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly state: 'alive' | 'draining' | 'late' | 'stopped';
  readonly started_at: Date;
  readonly lease_until: Date;
  readonly stopped_at: Date | null;
  readonly steps: number;
  readonly versions: string[];
}

const RUN = /\brun ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b/;

/** Who holds what: locks, slots, and the workers themselves. */
@Injectable()
export class HeldReads {
  constructor(
    @InjectDataSource() private readonly source: DataSource,
    @Inject(LOCKS) private readonly held: Pick<Locks, 'held'>,
  ) {}

  /** Oldest first. Their notes are hints, as the locks are. */
  async locks(): Promise<z.infer<typeof LockView>[]> {
    const locks = [...(await this.held.held())].sort((a, b) => a.sinceMs - b.sinceMs);
    const runOf = (why: string): string | undefined => RUN.exec(why)?.[1];
    const runs = [...new Set(locks.flatMap(({ why }) => runOf(why) ?? []))];
    const rows = await this.source.query<{ id: string; name: string }[]>(
      'select r.id, m.name from runs r join machines m on m.id = r.machine_id where r.id = any ($1::uuid[])',
      [runs],
    );
    const names = new Map(rows.map(({ id, name }) => [id, name]));
    return locks.map(({ sinceMs, ...lock }) => ({
      ...lock,
      since: new Date(sinceMs).toISOString(),
      machine: names.get(runOf(lock.why) ?? '') ?? null,
    }));
  }

  async slots(query: PageQuery): Promise<Page<z.infer<typeof SlotView>>> {
    const [resource, number] = decodeCursor(query.cursor, z.tuple([z.string(), z.number().int()])) ?? ['', 0];
    const rows = await this.source.query<SlotRow[]>(
      `select h.resource, h.number, h.held_at, r.id as run, s.key as step, s.state, m.name as machine, b.name as batch, w.id as worker, w.host, w.pid
         from slots h join steps s on s.id = h.step_id join runs r on r.id = s.run_id join machines m on m.id = r.machine_id
         join batches b on b.id = r.batch_id left join workers w on w.id = s.worker_id
        where (h.resource, h.number) > ($1, $2::int) order by h.resource, h.number limit $3`,
      [resource, number, query.limit + 1],
    );
    return toPage(rows, query.limit, (row) => [row.resource, row.number], slotView);
  }

  /** Those that work, and those that stopped within the last hour; newest first. */
  async workers(query: PageQuery): Promise<Page<z.infer<typeof WorkerView>>> {
    const [before] = decodeCursor(query.cursor, z.tuple([z.uuid()])) ?? [null];
    const rows = await this.source.query<WorkerRow[]>(
      `select w.id, w.host, w.pid, w.started_at, w.lease_until, w.stopped_at, w.step_versions as versions,
              case when w.stopped_at is not null then 'stopped' when w.lease_until < clock_timestamp() then 'late' when w.drain_at is not null then 'draining' else 'alive' end as state,
              (select count(*)::int from steps s where s.worker_id = w.id) as steps
         from workers w where (w.stopped_at is null or w.stopped_at > now() - interval '1 hour') and ($1::uuid is null or w.id < $1)
        order by w.id desc limit $2`,
      [before, query.limit + 1],
    );
    return toPage(rows, query.limit, (row) => [row.id], workerView);
  }
}

const slotView = ({ held_at: since, worker, host, pid, ...row }: SlotRow): z.infer<typeof SlotView> => ({
  ...row,
  since: since.toISOString(),
  by: worker === null || host === null || pid === null ? null : { worker, host, pid },
});

const workerView = (row: WorkerRow): z.infer<typeof WorkerView> => ({
  id: row.id,
  host: row.host,
  pid: row.pid,
  state: row.state,
  startedAt: row.started_at.toISOString(),
  leaseUntil: row.lease_until.toISOString(),
  stoppedAt: row.stopped_at?.toISOString() ?? null,
  steps: row.steps,
  versions: row.versions,
});
