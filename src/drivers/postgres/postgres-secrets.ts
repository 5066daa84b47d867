import { createCipheriv, createDecipheriv, createHash, randomBytes, randomInt } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';
import { HatcheryError } from '../../core/errors.js';
import { Secret, type Secrets } from '../../ports/secrets.js';
import type { Database } from './database.js';

/** No look-alikes (0O, 1lI): people type these passwords. 16 characters of 55 = 92 bits. */
const ALPHABET = 'abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789';
const LENGTH = 16;

/** AES-256-GCM under one key of 32 bytes; each row names its key by the first 8 bytes of its SHA-256. */
export class PostgresSecrets implements Secrets {
  private readonly keyId: string;

  constructor(
    private readonly database: Database,
    private readonly key: Buffer,
  ) {
    this.keyId = createHash('sha256').update(key).digest('hex').slice(0, 16);
  }

  async ensurePassword(machineId: string): Promise<string> {
    const password = Array.from({ length: LENGTH }, () => ALPHABET[randomInt(ALPHABET.length)]).join('');
    const nonce = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', this.key, nonce);
    const id = uuidv7();
    cipher.setAAD(Buffer.from(id));
    const ciphertext = Buffer.concat([cipher.update(password, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    const [row] = await this.database.query<{ id: string }>(
      `insert into secrets (id, machine_id, purpose, key_id, nonce, ciphertext) values ($1, $2, 'password', $3, $4, $5)
       on conflict (machine_id, purpose) do update set purpose = excluded.purpose returning id`,
      [id, machineId, this.keyId, nonce, ciphertext],
    );
    return row!.id;
  }

  async reveal(ref: string): Promise<Secret> {
    const [row] = await this.database.query<{ key_id: string; nonce: Buffer; ciphertext: Buffer }>(
      'select key_id, nonce, ciphertext from secrets where id = $1',
      [ref],
    );
    if (!row) throw new HatcheryError('not-found', `Unable to read secret ${ref}: it is not there`);
    if (row.key_id !== this.keyId)
      throw new HatcheryError(
        'settings-invalid',
        `Unable to read secret ${ref}: it was written under key ${row.key_id}`,
        {
          retry: 'after-fix',
          hint: 'Set HATCHERY_SECRET_KEY to the key of that time; back up key and database together.',
        },
      );
    const decipher = createDecipheriv('aes-256-gcm', this.key, row.nonce);
    decipher.setAAD(Buffer.from(ref));
    decipher.setAuthTag(row.ciphertext.subarray(-16));
    return new Secret(
      Buffer.concat([decipher.update(row.ciphertext.subarray(0, -16)), decipher.final()]).toString('utf8'),
    );
  }
}
