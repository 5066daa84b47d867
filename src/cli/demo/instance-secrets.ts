import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Login and password of one of the demo's accounts. */
export interface Account {
  readonly login: string;
  readonly password: string;
}

export interface InstanceSecrets {
  readonly admin: Account;
  readonly teacher: Account;
  readonly adminPasswordFile: string;
  readonly secretKeyFile: string;
}

/** Reads the instance's passwords and key, or makes them: a kept database goes on with the ones it knows. */
export async function instanceSecrets(folder: string): Promise<InstanceSecrets> {
  const password = () => randomBytes(9).toString('base64url');
  const admin = await keptValue(join(folder, 'admin-password'), password);
  const teacher = await keptValue(join(folder, 'teacher-password'), password);
  const key = await keptValue(join(folder, 'secret-key'), () => randomBytes(32).toString('base64'));
  return {
    admin: { login: 'admin', password: admin.value },
    teacher: { login: 'teacher', password: teacher.value },
    adminPasswordFile: admin.file,
    secretKeyFile: key.file,
  };
}

async function keptValue(file: string, make: () => string): Promise<{ file: string; value: string }> {
  const kept = await readFile(file, 'utf8').catch(() => undefined);
  if (kept !== undefined) return { file, value: kept.trim() };
  const value = make();
  await writeFile(file, `${value}\n`, { mode: 0o600 });
  return { file, value };
}
