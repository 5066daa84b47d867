import { randomUUID } from 'node:crypto';
import { HatcheryError } from '../../core/errors.js';
import { Database } from './database.js';
import type { Deployment } from './migrations.js';

export interface NewDeployment {
  readonly deployment: Deployment;
  /** Machines that stay with the original; this database forgets them. */
  readonly forgotten: number;
}

/**
 * Gives a copied database a life of its own: a new id and name, and no machine left in it. Every guest out there carries the mark of the original,
 * so nothing that this deployment does can reach it.
 * Errors: `not-applicable` while a worker works on this database, or when it has this name already.
 */
export async function newDeployment(databaseUrl: string, name: string): Promise<NewDeployment> {
  const database = new Database(databaseUrl, { max: 1 });
  try {
    return await database.transaction(async (queries) => {
      const [current] = await queries.query<Deployment>('select id, name from deployment for update');
      if (!current || current.name === name)
        throw new HatcheryError(
          'not-applicable',
          `Unable to begin a new deployment: the database is that of "${name}" already`,
          {
            hint: 'Set HATCHERY_DEPLOYMENT to a name that no other deployment has.',
          },
        );
      const [alive] = await queries.query<{ count: number }>(
        'select count(*)::int as count from workers where stopped_at is null and lease_until > now()',
      );
      if (alive!.count > 0)
        throw new HatcheryError(
          'not-applicable',
          `Unable to begin a new deployment: ${alive!.count} live worker(s) use this database`,
          {
            hint: 'Check that DATABASE_URL names the copy; then stop every service that uses it.',
          },
        );
      const deployment = { id: randomUUID(), name };
      const forgotten = await queries.query(
        `update machines set state = 'deleted', deleted_at = now() where state <> 'deleted' returning id`,
      );
      for (const statement of FORGET) await queries.query(statement);
      await queries.query('update deployment set id = $1, name = $2', [deployment.id, deployment.name]);
      await queries.query(
        `insert into audit (actor, action, subject, detail) values ('system', 'deployment.new', $1, $2)`,
        [name, JSON.stringify({ from: current, machines: forgotten.length })],
      );
      return { deployment, forgotten: forgotten.length };
    });
  } finally {
    await database.close();
  }
}

const FORGET = [
  'delete from outbox',
  'delete from slots',
  'delete from reservations',
  'delete from secrets where machine_id is not null',
  'delete from idempotency_keys',
  `update effect_holders set released_at = now() where released_at is null`,
  `update effects set state = 'undone', undone_at = now() where state <> 'undone'`,
  `update steps set state = 'skipped', worker_id = null, due_at = null, slots = null where state not in ('done', 'failed', 'skipped', 'undone')`,
  `update runs set state = 'cancelled', wanted = 'gone', finished_at = now() where state <> 'cancelled'`,
  'update batches set is_open = false, deleted_at = now() where deleted_at is null',
];
