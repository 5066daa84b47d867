import type { Workers } from '../../ports/workers.js';
import type { Database } from './database.js';

export class PostgresWorkers implements Workers {
  constructor(private readonly database: Database) {}

  async drain(workerId: string, actor: string): Promise<boolean> {
    const rows = await this.database.query(
      `with d as (
         update workers set drain_at = now()
          where id = $1 and drain_at is null and stopped_at is null and lease_until >= clock_timestamp() returning host, pid)
       insert into audit (actor, action, subject, detail)
       select $2, 'worker.drain', $3, jsonb_build_object('host', host, 'pid', pid) from d returning id`,
      [workerId, actor, workerId],
    );
    return rows.length === 1;
  }
}
