import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { HatcheryError } from '../../core/errors.js';

/** The account that Postgres runs as: empty = our own. Postgres refuses to run as root. */
export interface ServerUser {
  readonly uid?: number;
  readonly gid?: number;
}

/**
 * `nobody` when we are root, else ourselves. No user is ever created.
 * Errors: `settings-invalid` when root has no account `nobody` to hand over to.
 */
export function serverUser(): ServerUser {
  if (process.getuid?.() !== 0) return {};
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith('nobody:'));
  const [, , uid, gid] = line?.split(':') ?? [];
  if (uid === undefined || gid === undefined)
    throw new HatcheryError(
      'settings-invalid',
      'Unable to start Postgres: it does not run as root and there is no user nobody',
      {
        hint: 'Start as an ordinary user, or set DATABASE_URL.',
      },
    );
  return { uid: Number(uid), gid: Number(gid) };
}

/** Whether the account can enter the folder: asked of the kernel, since modes alone do not tell (ACLs, mounts). */
export function canEnter(user: ServerUser, folder: string): boolean {
  return spawnSync('/bin/sh', ['-c', 'cd -- "$1"', 'sh', folder], { ...user, stdio: 'ignore' }).status === 0;
}

/** Whether the account can run the program, its libraries included. */
export function canRun(user: ServerUser, program: string): boolean {
  return spawnSync(program, ['--version'], { ...user, cwd: '/', stdio: 'ignore' }).status === 0;
}
