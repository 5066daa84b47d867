import { execFile } from 'node:child_process';
import { access, constants, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface WantedPackages {
  /** For the log: what is missing here. */
  readonly what: string;
  /** Always fetched, also when the machine has them installed. */
  readonly names: readonly string[];
  /** Taken for their dependencies, as far as the sources have them, when apt's own plan names nothing. */
  readonly usual: readonly string[];
}

/**
 * Downloads Debian packages with apt as any user and hands the files to `use`: own lists and cache in the state folder, gone
 * afterwards, and nothing is installed. What the wanted ones depend on comes along unless it is installed here.
 * Throws what apt, dpkg or `use` threw, or that there is no apt.
 */
export async function withDebianPackages(
  stateFolder: string,
  wanted: WantedPackages,
  log: (line: string) => void,
  use: (files: readonly string[]) => Promise<void>,
): Promise<void> {
  for (const program of ['/usr/bin/apt-get', '/usr/bin/dpkg-deb'])
    if (!(await isRunnable(program))) throw new Error(`there is no ${program}`);
  const apt = await mkdtemp(join(stateFolder, 'apt-'));
  const debs = join(apt, 'debs');
  try {
    for (const folder of [join(apt, 'lists/partial'), join(apt, 'cache/archives/partial'), debs])
      await mkdir(folder, { recursive: true });
    const call = await aptCalls(apt, debs);
    log(`${wanted.what}: reading the package lists (nothing is installed, all stays in the state folder)`);
    await call('apt-get', 'update');
    const names = await packageNames(call, wanted);
    log(`fetching ${names.join(' ')}`);
    await call('apt-get', 'download', ...names);
    await use((await readdir(debs)).map((file) => join(debs, file)));
  } finally {
    await rm(apt, { recursive: true, force: true });
  }
}

/** Unpacks a package as if `root` were `/`. */
export async function unpackPackage(file: string, root: string): Promise<void> {
  await run('dpkg-deb', ['-x', file, root]);
}

export const isRunnable = (path: string): Promise<boolean> =>
  access(path, constants.X_OK).then(
    () => true,
    () => false,
  );

/** For LD_LIBRARY_PATH: the folders of the libraries that were unpacked under `root`. */
export async function libraryFolders(root: string): Promise<string> {
  const found: string[] = [];
  for (const base of [join(root, 'usr/lib'), join(root, 'lib')]) {
    found.push(base);
    for (const entry of await readdir(base, { withFileTypes: true }).catch(() => []))
      if (entry.isDirectory() && entry.name.includes('-linux-')) found.push(join(base, entry.name));
  }
  return found.join(delimiter);
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

/** What apt itself would install here, and the wanted ones themselves, which may be installed in part. */
async function packageNames(call: AptCall, { names, usual }: WantedPackages): Promise<string[]> {
  const plan = await call('apt-get', 'install', '--simulate', '--no-install-recommends', ...names).catch(
    () => '',
  );
  const planned = [...plan.matchAll(/^Inst (\S+)/gm)].map((match) => match[1]!);
  const more = planned.length > 0 ? planned : await knownPackages(call, usual);
  // Another C library than the machine's own loader does not run.
  return [...new Set([...names, ...more])].filter((name) => !/^libc6(:|$)/.test(name));
}

async function knownPackages(call: AptCall, usual: readonly string[]): Promise<string[]> {
  const known = (await call('apt-cache', 'pkgnames')).split('\n');
  return usual.filter((name) => known.includes(name));
}
