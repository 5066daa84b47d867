import { execFile } from 'node:child_process';
import { access, constants, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { HatcheryError } from '../../core/errors.js';

const run = promisify(execFile);

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
  if (!(await isRunnable(join(root, 'usr/bin', PROGRAM)))) await fetchPackages(stateFolder, root, log);
  return { command: join(root, 'usr/bin', PROGRAM), libraryPath: await libraryFolders(root) };
}

const PROGRAM = 'redis-server';
/** Used when apt's own plan names nothing: what redis-server 7.0 of Debian 12 and Ubuntu 24.04 link with. */
const USUAL_PACKAGES = [
  'libatomic1',
  'libhiredis0.14',
  'libhiredis1.1.0',
  'libjemalloc2',
  'liblua5.1-0',
  'liblzf1',
  'lua-bitop',
  'lua-cjson',
];

const isRunnable = (path: string) =>
  access(path, constants.X_OK).then(
    () => true,
    () => false,
  );

async function fetchPackages(stateFolder: string, root: string, log: (line: string) => void): Promise<void> {
  if (!(await isRunnable('/usr/bin/apt-get')) || !(await isRunnable('/usr/bin/dpkg-deb'))) throw missing();
  const apt = join(stateFolder, 'apt');
  const debs = join(apt, 'debs');
  const draft = `${root}.new`;
  try {
    await rm(draft, { recursive: true, force: true });
    for (const folder of [join(apt, 'lists/partial'), join(apt, 'cache/archives/partial'), debs, draft])
      await mkdir(folder, { recursive: true });
    const call = await aptCalls(apt, debs);
    log(
      'redis-server is not installed: reading the package lists (nothing is installed, all stays in the state folder)',
    );
    await call('apt-get', 'update');
    const names = await packageNames(call);
    log(`fetching ${names.join(' ')}`);
    await call('apt-get', 'download', ...names);
    for (const file of await readdir(debs)) await run('dpkg-deb', ['-x', join(debs, file), draft]);
    await rm(root, { recursive: true, force: true });
    await rename(draft, root);
  } catch (cause) {
    throw missing(cause);
  } finally {
    await rm(apt, { recursive: true, force: true });
  }
}

type AptCall = (program: 'apt-get' | 'apt-cache', ...args: string[]) => Promise<string>;

/** The machine's own sources, keys and proxies; lists and cache of our own, and none of its hooks. */
async function aptCalls(apt: string, debs: string): Promise<AptCall> {
  const settings = join(apt, 'apt.conf');
  await writeFile(
    settings,
    [
      `Dir::State::lists "${apt}/lists";`,
      `Dir::Cache "${apt}/cache";`,
      'APT::Sandbox::User "root";',
      'Debug::NoLocking "true";',
      'Acquire::Retries "3";',
      'Acquire::Languages "none";',
      '#clear APT::Update::Pre-Invoke;',
      '#clear APT::Update::Post-Invoke;',
      '#clear APT::Update::Post-Invoke-Success;',
      '',
    ].join('\n'),
  );
  return async (program, ...args) => {
    const env = { ...process.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' };
    const { stdout } = await run(program, ['-q', '-c', settings, ...args], {
      cwd: debs,
      env,
      timeout: 300_000,
      maxBuffer: 2 ** 26,
    });
    return stdout;
  };
}

/** What apt itself would install here; the program is in redis-tools, which may be installed while redis-server is not. */
async function packageNames(call: AptCall): Promise<string[]> {
  const plan = await call('apt-get', 'install', '--simulate', '--no-install-recommends', PROGRAM).catch(
    () => '',
  );
  const planned = [...plan.matchAll(/^Inst (\S+)/gm)].map((match) => match[1]!);
  const names = planned.length > 0 ? planned : await knownPackages(call);
  // Another C library than the machine's own loader does not run.
  return [...new Set([PROGRAM, 'redis-tools', ...names])].filter((name) => !/^libc6(:|$)/.test(name));
}

async function knownPackages(call: AptCall): Promise<string[]> {
  const known = (await call('apt-cache', 'pkgnames')).split('\n');
  return USUAL_PACKAGES.filter((name) => known.includes(name));
}

async function libraryFolders(root: string): Promise<string> {
  const found: string[] = [];
  for (const base of [join(root, 'usr/lib'), join(root, 'lib')]) {
    found.push(base);
    for (const entry of await readdir(base, { withFileTypes: true }).catch(() => []))
      if (entry.isDirectory() && entry.name.includes('-linux-')) found.push(join(base, entry.name));
  }
  return found.join(delimiter);
}

const missing = (cause?: unknown) =>
  new HatcheryError(
    'settings-invalid',
    'Unable to start Redis: redis-server is not installed and could not be fetched, so install it (Debian, Ubuntu: apt-get install redis-server) or set REDIS_URL',
    { cause, facts: cause instanceof Error ? { why: cause.message } : {} },
  );
