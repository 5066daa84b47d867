import { createHash, randomBytes } from 'node:crypto';
import { PHONE_HOME_TOKEN } from '../../core/vendor-data.js';
import type { PhoneHomes } from '../../ports/phone-homes.js';
import { Secret } from '../../ports/secrets.js';
import type { Database } from './database.js';

/** Beside the machine. 256 random bits need no slow hash: nobody guesses them, and a lookup by their hash tells nothing by its time. */
export class PostgresPhoneHomes implements PhoneHomes {
  constructor(
    private readonly database: Database,
    private readonly isTold: (cluster: string) => boolean,
  ) {}

  async issue(machineId: string, cluster: string): Promise<Secret | undefined> {
    if (!this.isTold(cluster)) return undefined;
    const token = `hatchery${randomBytes(32).toString('hex')}`;
    await this.database.query(
      'update machines set phone_home_hash = $2, phone_home_address = null where id = $1',
      [machineId, digest(token)],
    );
    return new Secret(token);
  }

  async find(token: string): Promise<{ runId: string; mac: string; hash: string } | undefined> {
    if (!PHONE_HOME_TOKEN.test(token)) return undefined;
    const hash = digest(token);
    const [row] = await this.database.query<{ runId: string; mac: string }>(
      `select r.id as "runId", m.mac from machines m join runs r on r.machine_id = m.id and r.finished_at is null where m.phone_home_hash = $1`,
      [hash],
    );
    return row && { ...row, hash: hash.toString('hex') };
  }
}

const digest = (token: string): Buffer => createHash('sha256').update(token).digest();
