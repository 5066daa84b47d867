import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { HatcheryError } from '../../core/errors.js';

/** The key of an embedded deployment: made once and kept beside its database, readable by its owner only. */
export async function keptSecretKey(folder: string): Promise<Buffer> {
  const path = join(folder, 'secret.key');
  try {
    await writeFile(path, `${randomBytes(32).toString('base64')}\n`, { mode: 0o600, flag: 'wx' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  const key = Buffer.from((await readFile(path, 'utf8')).trim(), 'base64');
  if (key.length === 32) return key;
  throw new HatcheryError(
    'settings-invalid',
    `Unable to read the secret key: ${path} does not hold 32 bytes in base64`,
    {
      retry: 'after-fix',
      hint: 'Bring the file back from the backup that belongs to this database.',
    },
  );
}
