import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import type { ExpectedView } from '../dto/expected.dto.js';
import { RemainingReads } from '../remaining/remaining-reads.js';
import { batchState, MACHINE_STATES, type BatchState, type MachineState } from '../../core/states.js';

/** How far a batch is: its machines by state, its steps, and how long it still takes. */
export interface BatchProgress extends ExpectedView {
  readonly state: BatchState;
  readonly counts: Record<MachineState | 'total', number>;
  readonly percent: number;
}

type Row = Record<MachineState, number> & {
  batch: string;
  total: number;
  steps_done: number;
  steps_total: number;
  cluster: string;
  is_deleted: boolean;
};

const STATE_COUNTS = MACHINE_STATES.map(
  (state) => `count(*) filter (where m.state = '${state}')::int as ${state}`,
).join(', ');

@Injectable()
export class BatchProgressReads {
  constructor(
    @InjectDataSource() private readonly source: DataSource,
    private readonly remaining: RemainingReads,
  ) {}

  /** One statement for any number of batches, besides the remaining times. */
  async of(batchIds: readonly string[]): Promise<ReadonlyMap<string, BatchProgress>> {
    if (batchIds.length === 0) return new Map();
    const rows = await this.source.query<Row[]>(
      `select b.id as batch, b.cluster, b.deleted_at is not null as is_deleted, count(*)::int as total, ${STATE_COUNTS},
              coalesce(sum(w.done), 0)::int as steps_done, coalesce(sum(w.total), 0)::int as steps_total
         from batches b join machines m on m.batch_id = b.id
         left join (select r.machine_id, count(*) filter (where s.state in ('done', 'skipped'))::int as done, count(*)::int as total
                      from runs r join steps s on s.run_id = r.id where r.batch_id = any ($1::uuid[]) group by r.machine_id) w on w.machine_id = m.id
        where b.id = any ($1::uuid[]) group by b.id`,
      [batchIds],
    );
    const states = new Map(rows.map((row) => [row.batch, stateOf(row)]));
    const remaining = await this.remaining.ofBatches(
      rows.map(({ batch, cluster }) => ({ id: batch, cluster, isWorking: states.get(batch) === 'working' })),
    );
    return new Map(
      rows.map((row) => [
        row.batch,
        { ...progressOf(row, states.get(row.batch)!), ...remaining.get(row.batch)! },
      ]),
    );
  }
}

const countsOf = (row: Row): BatchProgress['counts'] =>
  Object.fromEntries([
    ['total', row.total],
    ...MACHINE_STATES.map((state) => [state, row[state]]),
  ]) as BatchProgress['counts'];

const stateOf = (row: Row): BatchState => (row.is_deleted ? 'deleted' : batchState(countsOf(row)));

function progressOf(row: Row, state: BatchState): Omit<BatchProgress, keyof ExpectedView> {
  const share = row.steps_total === 0 ? 0 : row.steps_done / row.steps_total;
  return { state, counts: countsOf(row), percent: state === 'working' ? Math.floor(share * 100) : 100 };
}
