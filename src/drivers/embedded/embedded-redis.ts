import { randomBytes } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { HatcheryError } from '../../core/errors.js';
import type { EmbeddedOptions, EmbeddedStore } from './embedded-postgres.js';
import { freePort } from './free-port.js';
import { spawnGuarded, type GuardedProcess } from './guarded-process.js';
import { findRedisServer } from './redis-server.js';

const START_TIMEOUT_MS = 30_000;

/**
 * Starts Redis on a random loopback port with a random password; keeps nothing on disk, since Redis carries hints only.
 * It ends with `stop()` and with this process, however that ends. `port` and `password` start one again under its old address.
 * Errors: `settings-invalid` when there is no redis-server; `internal` with the tail of its log when it does not start.
 */
export async function startEmbeddedRedis(
  options: EmbeddedOptions & { readonly port?: number; readonly password?: string },
): Promise<EmbeddedStore> {
  const log = options.log ?? (() => undefined);
  const folder = join(options.dataFolder ?? options.stateFolder, 'redis');
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const server = await findRedisServer(options.stateFolder, log);
  for (let tries = 1; ; tries += 1) {
    const port = options.port ?? (await freePort());
    const password = options.password ?? randomBytes(18).toString('base64url');
    const configFile = join(folder, 'redis.conf');
    await rm(configFile, { force: true });
    await writeFile(configFile, config(folder, port, password), { mode: 0o600 });
    const logFile = openSync(join(folder, 'redis.log'), 'w', 0o600);
    const guarded = await spawnGuarded({
      command: server.command,
      args: [configFile],
      stopSignal: 'SIGINT',
      graceSeconds: 10,
      cwd: folder,
      env: {
        PATH: '/usr/bin:/bin',
        ...(server.libraryPath === undefined ? {} : { LD_LIBRARY_PATH: server.libraryPath }),
      },
      stdout: logFile,
      stderr: logFile,
    }).finally(() => closeSync(logFile));
    const url = `redis://:${password}@127.0.0.1:${port}`;
    if (await answers(url, guarded)) return { url, ended: guarded.ended, stop: () => guarded.stop() };
    await guarded.stop();
    const tail = (await readFile(join(folder, 'redis.log'), 'utf8'))
      .trimEnd()
      .split('\n')
      .slice(-8)
      .join('\n');
    if (!tail.includes('Address already in use') || tries === 5)
      throw new HatcheryError('internal', `Unable to start Redis: it does not answer\n${tail}`, {
        facts: { folder },
      });
  }
}

function config(folder: string, port: number, password: string): string {
  const settings = {
    bind: '127.0.0.1',
    port,
    requirepass: password,
    dir: JSON.stringify(folder),
    'maxmemory-policy': 'noeviction',
    save: '""',
    appendonly: 'no',
    daemonize: 'no',
  };
  return Object.entries(settings)
    .map(([name, value]) => `${name} ${value}\n`)
    .join('');
}

/** PONG under our password: somebody else on a lost port does not pass. */
async function answers(url: string, server: GuardedProcess): Promise<boolean> {
  let hasEnded = false;
  void server.ended.then(() => (hasEnded = true));
  const client = new Redis(url, { lazyConnect: true, maxRetriesPerRequest: 0, retryStrategy: () => null });
  // Each refused connection also arrives as the rejection below.
  client.on('error', () => undefined);
  const giveUpAt = performance.now() + START_TIMEOUT_MS;
  try {
    while (!hasEnded && performance.now() < giveUpAt) {
      if (
        await client
          .connect()
          .then(() => client.ping())
          .then(
            () => true,
            () => false,
          )
      )
        return !hasEnded;
      await sleep(10);
    }
    return false;
  } finally {
    client.disconnect();
  }
}
