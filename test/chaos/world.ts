import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Redis } from 'ioredis';
import { DEPLOYMENT, writeSite } from '../../src/cli/demo/site-files.js';
import type { FaultRule } from '../../src/simulators/faults.js';
import { ownEmptyPostgresIn, ownRedisIn, type OwnStore } from '../support/own-store.js';
import { Fleet } from './fleet.js';

const ADMIN_PASSWORD = 'correct horse battery';
/** Each takes about 100 MB. */
const SPARES = 60;

export interface ChaosWorldOptions {
  readonly seed: string;
  readonly timeScale: number;
  readonly workers: number;
  /** Processes that will be started in all. */
  readonly starts: number;
  readonly faults: readonly FaultRule[];
  /** Where programs that the stores need are kept. */
  readonly stateFolder: string;
  /** Folder of the build. */
  readonly build: string;
}

/** One deployment at work on simulated systems: stores, simulators, an API and workers, each a process of its own. */
export interface ChaosWorld {
  readonly folder: string;
  readonly journal: string;
  readonly postgres: OwnStore;
  readonly redis: OwnStore;
  readonly fleet: Fleet;
  flush(): Promise<void>;
  /** As the admin. Comes back when the API has answered, however often it was away. */
  call(method: string, path: string, options?: { form?: () => FormData; key?: string }): Promise<Response>;
  /** Ends everything; `keep` leaves the folder. */
  close(keep: boolean): Promise<void>;
}

export async function startChaosWorld(options: ChaosWorldOptions): Promise<ChaosWorld> {
  const folder = await mkdtemp(join(tmpdir(), 'hatchery-chaos-'));
  const stops: (() => Promise<void>)[] = [];
  const close = async (keep: boolean): Promise<void> => {
    for (const stop of stops.splice(0).reverse()) await stop();
    if (!keep) await rm(folder, { recursive: true, force: true });
  };
  try {
    const stores = await Promise.allSettled([
      ownEmptyPostgresIn(options.stateFolder),
      ownRedisIn(options.stateFolder),
    ]);
    for (const store of stores) if (store.status === 'fulfilled') stops.push(() => store.value.remove());
    const [postgres, redis] = stores.map((store) => {
      if (store.status === 'rejected') throw store.reason;
      return store.value;
    }) as [OwnStore, OwnStore];
    const journal = join(folder, 'journal.ndjson');
    const site = join(folder, 'site');
    const simulators = await startSimulators(options, { folder, journal });
    stops.push(() => simulators.stop());
    await writeSite(site, simulators.line);
    const fleet = new Fleet({
      logFolder: folder,
      spares: SPARES,
      starts: options.starts,
      build: options.build,
      env: {
        DATABASE_URL: postgres.url,
        REDIS_URL: redis.url,
        HATCHERY_DEPLOYMENT: DEPLOYMENT,
        HATCHERY_SECRET_KEY: Buffer.alloc(32, 7).toString('base64'),
        HATCHERY_CONFIG_DIR: site,
        HATCHERY_REMOTE_TIME_SCALE: String(options.timeScale),
        HATCHERY_LOG_LEVEL: 'warn',
        // A folder that cannot be: no role of several may need one.
        HATCHERY_STATE_DIR: '/dev/null/none',
      },
      apiEnv: { HATCHERY_PORT: '0', HATCHERY_ADMIN_PASSWORD: ADMIN_PASSWORD },
    });
    stops.push(() => fleet.close());
    await fleet.prepare();
    await fleet.startApi(options.build);
    await Promise.all(Array.from({ length: options.workers }, () => fleet.startWorker(options.build)));
    const token = await adminToken(fleet.url);
    return {
      folder,
      journal,
      postgres,
      redis,
      fleet,
      async flush() {
        const client = new Redis(redis.url);
        try {
          await client.flushall();
        } finally {
          client.disconnect();
        }
      },
      call: (method, path, more) => callUntilAnswered(() => `${fleet.url}${path}`, method, token, more),
      close,
    };
  } catch (error) {
    await close(false);
    throw error;
  }
}

async function startSimulators(
  { seed, timeScale, faults }: ChaosWorldOptions,
  { folder, journal }: { folder: string; journal: string },
): Promise<{ line: string; stop(): Promise<void> }> {
  await mkdir(join(folder, 'site'), { recursive: true });
  const faultsFile = join(folder, 'faults.json');
  await writeFile(faultsFile, JSON.stringify(faults));
  const program = join(process.cwd(), 'dist', 'simulators', 'program.js');
  const args = ['all', '--seed', seed, '--time-scale', String(timeScale), '--journal', journal];
  const child = spawn(process.execPath, [program, ...args, '--faults', faultsFile], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [line] = (await Promise.race([
    once(createInterface(child.stdout), 'line'),
    once(child, 'exit').then(() => []),
  ])) as [string?];
  if (line === undefined) throw new Error('Unable to go on: the simulators did not start');
  return { line, stop: () => ended(child) };
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  await once(child, 'exit');
}

async function adminToken(url: string): Promise<string> {
  const answer = await fetch(`${url}/api/v1/auth/login`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ login: 'admin', password: ADMIN_PASSWORD }),
  });
  return ((await answer.json()) as { token: string }).token;
}

/** A person's client asks again until it is told something: 5xx and 409 "in progress" are no answers. */
async function callUntilAnswered(
  url: () => string,
  method: string,
  token: string,
  { form, key }: { form?: () => FormData; key?: string } = {},
): Promise<Response> {
  for (;;) {
    const response = await fetch(url(), {
      method,
      headers: { authorization: `Bearer ${token}`, ...(key !== undefined && { 'idempotency-key': key }) },
      ...(form !== undefined && { body: form() }),
    }).catch(() => undefined);
    if (response !== undefined && response.status < 500 && !(await isInProgress(response))) return response;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

async function isInProgress(response: Response): Promise<boolean> {
  if (response.status !== 409) return false;
  return ((await response.clone().json()) as { code?: string }).code === 'idempotency-in-progress';
}
