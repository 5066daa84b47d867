import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { chmod, chown, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { HatcheryError } from '../../core/errors.js';
import { freePort } from './free-port.js';
import { spawnGuarded, type GuardedProcess } from './guarded-process.js';
import { postgresBinaries, type PostgresBinaries } from './postgres-binaries.js';
import { canEnter, serverUser, type ServerUser } from './server-user.js';
import { stopLeftover } from './leftover-postgres.js';

/** A server of our own on loopback; `url` holds its password. */
export interface EmbeddedStore {
  readonly url: string;
  /** Resolves when the server has ended, also by itself. */
  readonly ended: Promise<unknown>;
  stop(): Promise<void>;
}

export interface EmbeddedOptions {
  /** From `resolveStateFolder`: where programs are kept for all instances. */
  readonly stateFolder: string;
  /** Where this server's data are; default: the state folder. Reused when they are there. */
  readonly dataFolder?: string;
  readonly log?: (line: string) => void;
}

const START_TIMEOUT_MS = 60_000;
const USER = 'hatchery';

/**
 * Starts Postgres on a random loopback port, with data in `<dataFolder>/postgres` and database and user `hatchery`.
 * As root it runs as `nobody`. It ends with `stop()` and with this process, however that ends.
 * Shape:  `fsync: false` is for tests: data do not survive a power cut; `port` starts it again under its old address.
 * Errors: `settings-invalid` when it cannot run here; `internal` with the tail of its log when it does not start.
 */
export async function startEmbeddedPostgres(
  options: EmbeddedOptions & { readonly fsync?: boolean; readonly port?: number },
): Promise<EmbeddedStore> {
  const log = options.log ?? (() => undefined);
  const folder = options.dataFolder ?? options.stateFolder;
  const user = serverUser();
  await mkdir(folder, { recursive: true });
  // A strict umask closes what was made in our own state folder; the folder itself was chosen so that the user can enter it.
  if (user.uid !== undefined && folder.startsWith(options.stateFolder)) await chmod(folder, 0o711);
  if (!canEnter(user, folder))
    throw new HatcheryError(
      'settings-invalid',
      `Unable to start Postgres: user nobody cannot enter ${folder}`,
      {
        hint: 'Choose another HATCHERY_STATE_DIR, or set DATABASE_URL.',
      },
    );
  const binaries = await postgresBinaries({ stateFolder: options.stateFolder, user, log });
  const place = { folder, data: join(folder, 'postgres'), user, binaries };
  const password = await makeCluster(place, log);
  await stopLeftover(place.data);
  for (let tries = 1; ; tries += 1) {
    const port = options.port ?? (await freePort());
    const server = await launch(place, port, options.fsync ?? true);
    if (await isReady(place.data, server)) {
      const url = `postgres://${USER}:${password}@127.0.0.1:${port}/${USER}`;
      await makeDatabase(url);
      return { url, ended: server.ended, stop: () => server.stop() };
    }
    await server.stop();
    const tail = await logTail(folder);
    if (!tail.includes('could not create any TCP/IP sockets') || tries === 5)
      throw new HatcheryError('internal', `Unable to start Postgres: it ended at once\n${tail}`, {
        facts: { folder },
      });
  }
}

interface Place {
  readonly folder: string;
  readonly data: string;
  readonly user: ServerUser;
  readonly binaries: PostgresBinaries;
}

/** Initialises the data folder once, under another name until it is whole. Gives the password, kept beside it. */
async function makeCluster(
  { folder, data, user, binaries }: Place,
  log: (line: string) => void,
): Promise<string> {
  const passwordFile = join(folder, 'postgres-password');
  const version = await readFile(join(data, 'PG_VERSION'), 'utf8').catch(() => undefined);
  if (version !== undefined) {
    if (version.trim() === binaries.majorVersion) return (await readFile(passwordFile, 'utf8')).trim();
    throw new HatcheryError(
      'settings-invalid',
      `Unable to start Postgres: ${data} was made by version ${version.trim()}, this one is ${binaries.majorVersion}`,
      { hint: 'Export the data with the earlier version of Hatchery, or choose another HATCHERY_STATE_DIR.' },
    );
  }
  log('making a new database');
  const draft = `${data}.new`;
  await rm(draft, { recursive: true, force: true });
  await mkdir(draft, { mode: 0o700 });
  const password = randomBytes(18).toString('base64url');
  const draftPassword = `${passwordFile}.new`;
  await rm(draftPassword, { force: true });
  await writeFile(draftPassword, `${password}\n`, { mode: 0o600 });
  if (user.uid !== undefined && user.gid !== undefined) {
    await chown(draft, user.uid, user.gid);
    await chown(draftPassword, user.uid, user.gid);
  }
  await initialise(binaries.initdb, draft, draftPassword, user);
  if (user.uid !== undefined) await chown(draftPassword, 0, 0);
  await rename(draftPassword, passwordFile);
  await rename(draft, data);
  return password;
}

async function initialise(
  initdb: string,
  data: string,
  passwordFile: string,
  user: ServerUser,
): Promise<void> {
  const options = ['-U', USER, '-E', 'UTF8', '--locale=C', '--auth=scram-sha-256', '--no-sync'];
  try {
    await promisify(execFile)(initdb, ['-D', data, `--pwfile=${passwordFile}`, ...options], {
      ...user,
      cwd: '/',
      env: { PATH: '/usr/bin:/bin' },
    });
  } catch (cause) {
    const { stderr } = cause as { stderr?: string };
    throw new HatcheryError(
      'internal',
      `Unable to make a new database: ${(stderr ?? String(cause)).trim()}`,
      {
        hint: 'Start as a user that has an entry in /etc/passwd, or set DATABASE_URL.',
        cause,
      },
    );
  }
}

async function launch(
  { folder, data, user, binaries }: Place,
  port: number,
  fsync: boolean,
): Promise<GuardedProcess> {
  const logFile = openSync(logPath(folder), 'w', 0o600);
  const settings = {
    unix_socket_directories: '',
    max_connections: '200',
    timezone: 'UTC',
    ...(fsync
      ? {}
      : { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off', max_wal_size: '2GB' }),
  };
  try {
    return await spawnGuarded({
      command: binaries.postgres,
      args: [
        ...['-D', data, '-h', '127.0.0.1', '-p', String(port)],
        ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
      ],
      stopSignal: 'SIGINT',
      graceSeconds: 15,
      ...user,
      cwd: '/',
      env: { PATH: '/usr/bin:/bin' },
      stdout: logFile,
      stderr: logFile,
    });
  } finally {
    closeSync(logFile);
  }
}

/** Postgres writes its own state into line 8 of postmaster.pid. False = it ended before. */
async function isReady(data: string, server: GuardedProcess): Promise<boolean> {
  let hasEnded = false;
  void server.ended.then(() => (hasEnded = true));
  const giveUpAt = performance.now() + START_TIMEOUT_MS;
  while (!hasEnded && performance.now() < giveUpAt) {
    const lines = (await readFile(join(data, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n');
    if (lines[0] === String(server.pid) && lines[7]?.trim() === 'ready') return true;
    await sleep(10);
  }
  return false;
}

async function makeDatabase(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: new URL('/postgres', url).href });
  await client.connect();
  try {
    const { rowCount } = await client.query('select 1 from pg_database where datname = $1', [USER]);
    if (rowCount === 0) await client.query(`create database ${USER}`);
  } finally {
    await client.end();
  }
}

const logPath = (folder: string) => join(folder, 'postgres.log');

async function logTail(folder: string): Promise<string> {
  return (await readFile(logPath(folder), 'utf8').catch(() => '')).trimEnd().split('\n').slice(-8).join('\n');
}
