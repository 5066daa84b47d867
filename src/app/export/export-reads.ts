import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import type { z } from 'zod';
import type { AppContext } from '../context.js';
import type { ExportRow } from '../dto/export.dto.js';
import { CONTEXT } from '../tokens.js';

type Row = z.infer<typeof ExportRow>;

/** Rows in memory at once. */
const PAGE = 500;
/** A reader that stops reading gives its connection back. */
const READER_MS = 60_000;

const TABLES = [
  `select 'machine' as row, m.id, b.name as batch, m.name, m.login, m.cluster, m.node, m.vmid, m.mac, m.address, m.state,
          m.error ->> 'code' as code,
          (select r.id from runs r where r.machine_id = m.id order by r.id desc limit 1) as run
     from machines m join batches b on b.id = m.batch_id
    order by m.id`,
  `select 'run' as row, r.id, r.machine_id as machine, b.name as batch, r.state, r.wanted, r.error ->> 'code' as code,
          r.created_at as "createdAt", r.finished_at as "finishedAt"
     from runs r join batches b on b.id = r.batch_id
    order by r.id`,
  `select 'effect' as row, e.id, s.run_id as run, s.key as step, e.kind, e.system, e.key, e.shared, case when e.released_at is null then e.state else 'released' end as state,
          array (select h.machine_id from effect_holders h where h.effect_id = e.id and h.released_at is null order by 1) as holders
     from effects e join steps s on s.id = e.step_id
    order by e.seq`,
  `select 'reservation' as row, kind, scope, value, machine_id as machine, released_at as "releasedAt", rest_until as "restUntil", note
     from reservations
    order by kind, scope, value`,
] as const;

/** All that the product knows, as it is at one moment. */
@Injectable()
export class ExportReads {
  constructor(
    @InjectDataSource() private readonly source: DataSource,
    @Inject(CONTEXT) private readonly context: Pick<AppContext, 'deployment'>,
  ) {}

  /** Page after page, from one snapshot; whoever leaves early must call `return`. */
  async *pages(): AsyncGenerator<readonly Row[], void, void> {
    const runner = this.source.createQueryRunner();
    try {
      await runner.startTransaction('REPEATABLE READ');
      await runner.query('set transaction read only');
      await runner.query(`set local idle_in_transaction_session_timeout = ${READER_MS}`);
      const [{ at }] = (await runner.query('select now() as at')) as [{ at: Date }];
      const { id: deployment, name } = this.context.deployment;
      yield [{ row: 'export', v: 1, deployment, name, at: at.toISOString() }];
      let rows = 0;
      for (const table of TABLES) {
        await runner.query(`declare export_rows no scroll cursor for ${table}`);
        for (;;) {
          const page = (await runner.query(`fetch ${PAGE} from export_rows`)) as Row[];
          if (page.length === 0) break;
          rows += page.length;
          yield page;
        }
        await runner.query('close export_rows');
      }
      yield [{ row: 'end', rows }];
    } finally {
      // Nothing was written. A connection that is broken or was taken away has nothing to roll back.
      await runner.rollbackTransaction().catch(() => undefined);
      await runner.release();
    }
  }
}
