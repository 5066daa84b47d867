import { execFile, spawnSync } from 'node:child_process';
import { chmod, copyFile, mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import {
  isRunnable,
  libraryFolders,
  unpackPackage,
  withDebianPackages,
} from '../../src/drivers/embedded/debian-packages.js';
import { rawLineText, type RawLine } from '../../src/core/lxc/raw-lines.js';

const run = promisify(execFile);

/** What is printed of a program that ran, whatever its end. */
interface Ended {
  readonly code: number;
  readonly text: string;
}

/**
 * One unprivileged container of the real LXC. Its programs are this machine's, mounted read-only; the rest is its own. All of it happens in a
 * mount namespace, where root may map what `subids` say.
 */
export class RealContainer {
  constructor(
    readonly folder: string,
    private readonly programs: string,
  ) {}

  /** Owned by the container's root. */
  readonly rootfs = join(this.folder, 'rootfs');

  async prepare(): Promise<void> {
    await chmod(this.folder, 0o755);
    for (const path of ['rootfs', 'mounted', 'ct/105'])
      await mkdir(join(this.folder, path), { recursive: true });
    for (const path of [
      'usr',
      'etc/security',
      'var/lib',
      'var/log',
      'proc',
      'sys',
      'dev',
      'tmp',
      'run',
      'home',
    ])
      await mkdir(join(this.rootfs, path), { recursive: true });
    for (const path of ['bin', 'sbin', 'lib', 'lib64']) await symlink(`usr/${path}`, join(this.rootfs, path));
    await run('chown', ['-Rh', '100000:100000', this.rootfs]);
  }

  /** Starts it with raw lines as they stand in a config of the cluster, runs `within` in it, and stops it. */
  async start(lines: readonly RawLine[], subids: readonly string[], within: string): Promise<Ended> {
    const config = [
      'lxc.uts.name = vm-rapamato',
      `lxc.rootfs.path = dir:${this.rootfs}`,
      `lxc.rootfs.mount = ${join(this.folder, 'mounted')}`,
      'lxc.mount.entry = /usr usr none bind,ro 0 0',
      'lxc.net.0.type = empty',
      'lxc.mount.auto = proc:mixed sys:ro',
      'lxc.apparmor.profile = unconfined',
      'lxc.init.cmd = /bin/sleep infinity',
      'lxc.tty.max = 0',
      // The cluster writes its raw lines out in this form.
      ...lines.map((line) => rawLineText(line).replace(': ', ' = ')),
      '',
    ];
    await writeFile(join(this.folder, 'ct/105/config'), config.join('\n'));
    await writeFile(join(this.folder, 'subid'), `${subids.join('\n')}\n`);
    const at = `-P '${join(this.folder, 'ct')}' -n 105`;
    const log = join(this.folder, 'log');
    const script = [
      'mount --make-rprivate /',
      ...['/etc/subuid', '/etc/subgid'].map((file) => `mount --bind '${join(this.folder, 'subid')}' ${file}`),
      `lxc-start ${at} -o '${log}' -l INFO >&2 || { grep ERROR '${log}'; exit 1; }`,
      `lxc-attach ${at} -- /bin/sh -c '${within}'; code=$?`,
      `lxc-stop ${at} -k; exit $code`,
    ];
    const env = {
      PATH: `${join(this.programs, 'usr/bin')}:/usr/sbin:/usr/bin:/sbin:/bin`,
      LD_LIBRARY_PATH: await libraryFolders(this.programs),
    };
    return new Promise((resolve) => {
      execFile('unshare', ['-m', 'sh', '-c', script.join('\n')], { env, timeout: 30_000 }, (error, stdout) =>
        resolve({ code: error ? Number(error.code ?? 1) : 0, text: stdout }),
      );
    });
  }

  /** A file of the node that the container's root may read, and write unless it is shown read-only. */
  async give(name: string, from: { file: string } | { text: string }, owner = 100_000): Promise<string> {
    const path = join(this.folder, 'node', name);
    await mkdir(dirname(path), { recursive: true });
    await ('file' in from ? copyFile(from.file, path) : writeFile(path, from.text));
    await chmod(path, 'file' in from ? 0o755 : 0o600);
    await run('chown', [`${owner}:${owner}`, path]);
    return path;
  }
}

/** Debian's lxc, fetched into the state folder once and not installed; `{ missing }` says why there can be no container here. */
export async function realLxc(stateFolder: string): Promise<{ programs: string } | { missing: string }> {
  if (process.getuid?.() !== 0) return { missing: 'only root starts containers of mapped ids' };
  if (spawnSync('unshare', ['-m', 'true']).status !== 0)
    return { missing: 'there are no mount namespaces here' };
  const programs = join(stateFolder, 'lxc');
  if (await isRunnable(join(programs, 'usr/bin/lxc-start'))) return { programs };
  const draft = `${programs}.${process.pid}`;
  const wanted = {
    what: 'lxc for the tests with a real container',
    names: ['lxc', 'liblxc1', 'liblxc-common', 'uidmap', 'libsubid4'],
    usual: [],
  };
  try {
    await withDebianPackages(
      stateFolder,
      wanted,
      () => undefined,
      async (files) => {
        for (const file of files) await unpackPackage(file, draft);
      },
    );
    await rename(draft, programs);
    return { programs };
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    return { missing: (error instanceof Error ? error.message : String(error)).trim().split('\n').at(-1)! };
  }
}
