import { mkdir, rename, rm } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { HatcheryError } from '../../core/errors.js';
import { isRunnable, libraryFolders, unpackPackage, withDebianPackages } from './debian-packages.js';

/** A redis-server to start, and the folders of the libraries that came with it. */
export interface RedisServer {
  readonly command: string;
  readonly libraryPath: string | undefined;
}

/**
 * Finds redis-server on PATH, or in the state folder, or fetches Debian's packages there with apt: own lists and cache,
 * unpacked with `dpkg-deb -x`, nothing installed. Works without root.
 * Errors: `settings-invalid` in one sentence that says what to install or set.
 */
export async function findRedisServer(
  stateFolder: string,
  log: (line: string) => void,
): Promise<RedisServer> {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter).filter(Boolean))
    if (await isRunnable(join(folder, PROGRAM)))
      return { command: join(folder, PROGRAM), libraryPath: undefined };
  const root = join(stateFolder, 'redis-server');
  if (!(await isRunnable(join(root, 'usr/bin', PROGRAM)))) await fetchServer(stateFolder, root, log);
  return { command: join(root, 'usr/bin', PROGRAM), libraryPath: await libraryFolders(root) };
}

const PROGRAM = 'redis-server';
const PACKAGES = {
  what: 'redis-server is not installed',
  // The program is in redis-tools, which may be installed while redis-server is not.
  names: [PROGRAM, 'redis-tools'],
  // What redis-server 7.0 of Debian 12 and Ubuntu 24.04 link with.
  usual: [
    'libatomic1',
    'libhiredis0.14',
    'libhiredis1.1.0',
    'libjemalloc2',
    'liblua5.1-0',
    'liblzf1',
    'lua-bitop',
    'lua-cjson',
  ],
};

async function fetchServer(stateFolder: string, root: string, log: (line: string) => void): Promise<void> {
  const draft = `${root}.new`;
  try {
    await rm(draft, { recursive: true, force: true });
    await mkdir(draft, { recursive: true });
    await withDebianPackages(stateFolder, PACKAGES, log, async (files) => {
      for (const file of files) await unpackPackage(file, draft);
    });
    await rm(root, { recursive: true, force: true });
    await rename(draft, root);
  } catch (cause) {
    throw missing(cause);
  }
}

const missing = (cause: unknown) =>
  new HatcheryError(
    'settings-invalid',
    'Unable to start Redis: redis-server is not installed and could not be fetched, so install it (Debian, Ubuntu: apt-get install redis-server) or set REDIS_URL',
    { cause, facts: cause instanceof Error ? { why: cause.message } : {} },
  );
