import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { batchState, MACHINE_STATES, type BatchState, type MachineState } from '../../core/states.js';

/** How far a batch is: its machines by state, its steps, and how long it still takes at the pace so far. */
export interface BatchProgress {
  readonly state: BatchState;
  readonly counts: Record<MachineState | 'total', number>;
  readonly percent: number;
  /** `null` while nothing is known, 0 when every machine has come to rest. */
  readonly remainingSeconds: number | null;
}

type Row = Record<MachineState, number> & {
  batch: string;
  total: number;
  steps_done: number;
  steps_total: number;
  elapsed_seconds: number;
  is_deleted: boolean;
};

const STATE_COUNTS = MACHINE_STATES.map(
  (state) => `count(*) filter (where m.state = '${state}')::int as ${state}`,
).join(', ');

@Injectable()
export class BatchProgressReads {
  constructor(@InjectDataSource() private readonly source: DataSource) {}

  /** One statement for any number of batches. */
  async of(batchIds: readonly string[]): Promise<ReadonlyMap<string, BatchProgress>> {
    if (batchIds.length === 0) return new Map();
    const rows = await this.source.query<Row[]>(
      `select b.id as batch, b.deleted_at is not null as is_deleted, count(*)::int as total, ${STATE_COUNTS},
              coalesce(sum(w.done), 0)::int as steps_done, coalesce(sum(w.total), 0)::int as steps_total,
              extract(epoch from now() - min(m.created_at) filter (where m.state in ('reserved', 'creating')))::float8 as elapsed_seconds
         from batches b join machines m on m.batch_id = b.id
         left join (select r.machine_id, count(*) filter (where s.state in ('done', 'skipped'))::int as done, count(*)::int as total
                      from runs r join steps s on s.run_id = r.id where r.batch_id = any ($1::uuid[]) group by r.machine_id) w on w.machine_id = m.id
        where b.id = any ($1::uuid[]) group by b.id`,
      [batchIds],
    );
    return new Map(rows.map((row) => [row.batch, progressOf(row)]));
  }
}

function progressOf(row: Row): BatchProgress {
  const counts = Object.fromEntries([
    ['total', row.total],
    ...MACHINE_STATES.map((state) => [state, row[state]]),
  ]) as BatchProgress['counts'];
  const state = row.is_deleted ? 'deleted' : batchState(counts);
  const share = row.steps_total === 0 ? 0 : row.steps_done / row.steps_total;
  const isWorking = state === 'working';
  return {
    state,
    counts,
    percent: isWorking ? Math.floor(share * 100) : 100,
    remainingSeconds: remaining(isWorking, share, row.elapsed_seconds),
  };
}

function remaining(isWorking: boolean, share: number, elapsedSeconds: number): number | null {
  if (!isWorking) return 0;
  return share === 0 ? null : Math.ceil((elapsedSeconds * (1 - share)) / share);
}
