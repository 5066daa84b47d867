import type { ErrorRecord } from '../../core/errors.js';
import type { ClusterPauses } from '../../ports/cluster-pauses.js';
import type { ClusterStops, StopReason } from '../../ports/cluster-stops.js';
import type { Database } from './database.js';

const PRODUCT = 'hatchery';

/** Each change leaves a line in the audit list. */
export class PostgresClusterStops implements ClusterStops, ClusterPauses {
  constructor(private readonly database: Database) {}

  async of(cluster: string): Promise<readonly ErrorRecord[]> {
    const rows = await this.database.query<{ error: ErrorRecord }>(
      'select error from cluster_stops where cluster = $1 order by since, reason',
      [cluster],
    );
    return rows.map((row) => row.error);
  }

  async holds(cluster: string, reason: StopReason): Promise<boolean> {
    const rows = await this.database.query('select 1 from cluster_stops where cluster = $1 and reason = $2', [
      cluster,
      reason,
    ]);
    return rows.length === 1;
  }

  async stop(
    cluster: string,
    reason: StopReason,
    error: ErrorRecord,
    by: { actor: string; action: string } = { actor: PRODUCT, action: 'cluster.stop' },
  ): Promise<boolean> {
    const [row] = await this.database.query<{ is_new: boolean }>(
      `with s as (insert into cluster_stops (cluster, reason, error) values ($1, $2, $3)
                  on conflict (cluster, reason) do update set error = excluded.error returning (xmax = 0) as is_new),
            a as (insert into audit (actor, action, subject, detail)
                  select $4, $5, $1, jsonb_build_object('reason', $2::text, 'error', $3::jsonb) from s where is_new)
       select is_new from s`,
      [cluster, reason, JSON.stringify(error), by.actor, by.action],
    );
    return row!.is_new;
  }

  async lift(cluster: string, reason: StopReason, atLeastMs: number, actor = PRODUCT): Promise<boolean> {
    const rows = await this.database.query(
      `with s as (delete from cluster_stops where cluster = $1 and reason = $2 and since <= now() - $3 * interval '1 millisecond' returning cluster)
       insert into audit (actor, action, subject, detail)
       select $4, 'cluster.resume', cluster, jsonb_build_object('reason', $2::text) from s returning id`,
      [cluster, reason, atLeastMs, actor],
    );
    return rows.length === 1;
  }

  async pause(cluster: string, { actor, why }: { actor: string; why: string }): Promise<boolean> {
    const error: ErrorRecord = {
      code: 'cluster-paused',
      message: `Unable to begin anything on cluster ${cluster}: ${actor} paused it (${why})`,
      hint: `What runs goes on to its end, new batches wait. To go on: hatchery cluster resume ${cluster}`,
      facts: { cluster, actor, why },
    };
    return this.stop(cluster, 'paused', error, { actor, action: 'cluster.pause' });
  }

  async resume(cluster: string, actor: string): Promise<boolean> {
    return this.lift(cluster, 'paused', 0, actor);
  }
}
