import { spawn, type ChildProcess } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import ssh2 from 'ssh2';
import {
  isRunnable,
  libraryFolders,
  unpackPackage,
  withDebianPackages,
} from '../../src/drivers/embedded/debian-packages.js';
import { claimFolder } from '../../src/drivers/embedded/folder-claim.js';
import { freePort } from '../../src/drivers/embedded/free-port.js';

const PACKAGES = {
  what: 'OpenSSH for the tests',
  names: ['openssh-server'],
  usual: ['libwrap0', 'libwtmpdb0'],
};
const INSTALLED = '/usr/sbin/sshd';
const UNPACKED = 'usr/sbin/sshd';
const START_MS = 60_000;

export interface RealSshd {
  readonly port: number;
  readonly user: string;
  readonly hostKey: string;
  readonly privateKey: string;
  /** What it wrote about itself so far: sign-ins, commands, channels. */
  log(): Promise<string>;
  stop(): Promise<void>;
}

export interface SshdOptions {
  /** More of the same key's line in authorized_keys, e.g. `restrict,command="..."`. */
  readonly keyOptions?: string;
  /** More lines of sshd_config. */
  readonly settings?: readonly string[];
}

/**
 * A real OpenSSH server on a loopback port of its own, with keys of its own, for the user that runs the tests; nothing of the machine's own
 * server is read or written. `{ missing }` says why there can be none here.
 */
export async function startRealSshd(
  stateFolder: string,
  { keyOptions = '', settings = [] }: SshdOptions = {},
): Promise<RealSshd | { readonly missing: string }> {
  const found = await findSshd(stateFolder);
  if ('missing' in found) return found;
  const folder = await mkdtemp(join(tmpdir(), 'hatchery-sshd-'));
  // Whoever signs in reads the keys below it.
  await chmod(folder, 0o755);
  const [host, client] = [newSshKey(), newSshKey()];
  const at = (name: string): string => join(folder, name);
  const [user, port] = [userInfo().username, await freePort()];
  await writeFile(at('host_key'), host.private, { mode: 0o600 });
  await writeFile(at('authorized_keys'), `${keyOptions}${keyOptions && ' '}${client.public}\n`, {
    mode: 0o600,
  });
  await writeFile(
    at('sshd_config'),
    [
      `ListenAddress 127.0.0.1:${port}`,
      `HostKey ${at('host_key')}`,
      `PidFile ${at('pid')}`,
      `AuthorizedKeysFile ${at('authorized_keys')}`,
      'PasswordAuthentication no',
      'KbdInteractiveAuthentication no',
      'PermitRootLogin prohibit-password',
      'UsePAM no',
      'StrictModes no',
      'LogLevel VERBOSE',
      'Subsystem sftp internal-sftp',
      ...settings,
      '',
    ].join('\n'),
  );
  const logFile = at('log');
  await writeFile(logFile, '');
  const sshd = [found.sshd, '-D', '-f', at('sshd_config'), '-E', logFile];
  const [command = '', ...args] = userInfo().uid === 0 ? await asRoot(sshd, at) : sshd;
  const child = spawn(command, args, {
    stdio: 'ignore',
    env: { ...process.env, LD_LIBRARY_PATH: found.libraries },
  });
  const log = (): Promise<string> => readFile(logFile, 'utf8');
  const stop = async (): Promise<void> => {
    await ended(child);
    await rm(folder, { recursive: true, force: true });
  };
  if (!(await isListening(child, port))) {
    const why = (await log()).trim().split('\n').at(-1) ?? '';
    await stop();
    return { missing: `sshd does not start here: ${why}` };
  }
  return { port, user, hostKey: host.public.trim(), privateKey: client.private, log, stop };
}

/** One key of some hundreds that ssh2 makes is one that it cannot read itself. */
export function newSshKey(): { readonly private: string; readonly public: string } {
  const pair = ssh2.utils.generateKeyPairSync('ed25519');
  return ssh2.utils.parseKey(pair.private) instanceof Error ? newSshKey() : pair;
}

/** As root it wants a user and a folder of its own: it gets them in a mount namespace that only it sees. */
async function asRoot(sshd: readonly string[], at: (name: string) => string): Promise<string[]> {
  const passwd = await readFile('/etc/passwd', 'utf8');
  const own = /^sshd:/m.test(passwd) ? '' : 'sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n';
  await writeFile(at('passwd'), passwd.replace(/\n?$/, `\n${own}`));
  const script =
    'mount --bind "$1" /etc/passwd && mount -t tmpfs tmpfs /run && mkdir -p -m 0755 /run/sshd && shift && exec "$@"';
  return ['unshare', '--mount', 'sh', '-c', script, 'sshd', at('passwd'), ...sshd];
}

async function findSshd(
  stateFolder: string,
): Promise<{ sshd: string; libraries: string } | { readonly missing: string }> {
  if (await isRunnable(INSTALLED)) return { sshd: INSTALLED, libraries: '' };
  const root = join(stateFolder, 'openssh-server');
  if (!(await isRunnable(join(root, UNPACKED)))) {
    try {
      await fetchInto(stateFolder, root);
    } catch (error) {
      return { missing: (error instanceof Error ? error.message : String(error)).trim().split('\n').at(-1)! };
    }
  }
  return { sshd: join(root, UNPACKED), libraries: await libraryFolders(root) };
}

/** One test file fetches, the others wait for it. */
async function fetchInto(stateFolder: string, root: string): Promise<void> {
  const draft = `${root}.new`;
  await mkdir(draft, { recursive: true });
  const release = await claimFolder(draft);
  if (!release) {
    await sleep(200);
    return (await isRunnable(join(root, UNPACKED))) ? undefined : fetchInto(stateFolder, root);
  }
  try {
    const log = (line: string): void => void process.stderr.write(`${line}\n`);
    await withDebianPackages(stateFolder, PACKAGES, log, async (files) => {
      for (const file of files) await unpackPackage(file, draft);
    });
    await release();
    await rename(draft, root);
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

async function isListening(child: ChildProcess, port: number): Promise<boolean> {
  const giveUpAt = performance.now() + START_MS;
  while (child.exitCode === null && performance.now() < giveUpAt) {
    const isOpen = await new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => resolve(true)).on('error', () => resolve(false));
      socket.on('connect', () => socket.destroy());
    });
    if (isOpen) return true;
    await sleep(20);
  }
  return false;
}

/** Its sessions end with their connections. */
async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.pid === undefined) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill();
  await gone;
}
