import type { RestingVmid, VmidRests } from '../../ports/vmid-rests.js';
import type { Database } from './database.js';

interface RestSql {
  vmid: number;
  released_ms: number;
  until_ms: number;
  for_ms: number;
  note: string | null;
}

const COLUMNS = `value::int as vmid, ms(released_at) as released_ms, ms(rest_until) as until_ms, ms(now()) - ms(released_at) as for_ms, note`;
const RESTING = `kind = 'vmid' and scope = $1 and rest_until > now()`;

export class PostgresVmidRests implements VmidRests {
  constructor(private readonly database: Database) {}

  async list(cluster: string, after: number, limit: number): Promise<readonly RestingVmid[]> {
    const rows = await this.database.query<RestSql>(
      `select ${COLUMNS} from reservations where ${RESTING} and value::int > $2 order by value::int limit $3`,
      [cluster, after, limit],
    );
    return rows.map(resting);
  }

  async find(cluster: string, vmid: number): Promise<(RestingVmid & { forMs: number }) | undefined> {
    const [row] = await this.database.query<RestSql>(
      `select ${COLUMNS} from reservations where ${RESTING} and value = $2`,
      [cluster, String(vmid)],
    );
    return row && { ...resting(row), forMs: row.for_ms };
  }

  async end(cluster: string, vmid: number, atLeastMs: number, actor: string): Promise<boolean> {
    const rows = await this.database.query(
      `with gone as (delete from reservations where ${RESTING} and value = $2 and released_at <= now() - $3 * interval '1 millisecond' returning note)
       insert into audit (actor, action, subject, detail)
       select $4, 'vmid.release', $1 || '/' || $2, jsonb_build_object('note', note) from gone returning id`,
      [cluster, String(vmid), atLeastMs, actor],
    );
    return rows.length === 1;
  }
}

const resting = (row: RestSql): RestingVmid => ({
  vmid: row.vmid,
  releasedAtMs: row.released_ms,
  untilMs: row.until_ms,
  note: row.note ?? undefined,
});
