import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { HatcheryError } from '../../core/errors.js';
import type { AppContext } from '../context.js';
import type { Accounts } from './accounts.js';

/**
 * Makes the first account of a new deployment from HATCHERY_ADMIN_LOGIN and HATCHERY_ADMIN_PASSWORD; later starts ignore both.
 * Without a password one is made and written to `admin-password` in the state folder (0600); only the path is logged.
 */
export async function makeFirstAdmin(
  accounts: Accounts,
  { settings, stateDir, logger }: AppContext,
): Promise<void> {
  if ((await accounts.countUsers()) > 0) return;
  const { adminLogin, adminPassword } = settings.identity;
  const password = adminPassword?.reveal() ?? randomBytes(18).toString('base64url');
  try {
    await accounts.createUser(adminLogin, password, 'admin');
  } catch (error) {
    // Another process started at the same moment and made it.
    if (error instanceof HatcheryError && error.code === 'name-taken') return;
    throw error;
  }
  if (adminPassword) {
    logger.info({ login: adminLogin }, 'the first admin was made from the settings');
    return;
  }
  const path = join(await stateDir(), 'admin-password');
  await writeFile(path, `${password}\n`, { mode: 0o600 });
  logger.warn({ login: adminLogin, path }, 'the first admin was made; the password stands in this file');
}
