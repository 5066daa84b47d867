import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { freemem, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Redis } from 'ioredis';
import { DEPLOYMENT, writeSite } from '../../src/cli/demo/site-files.js';
import type { TransportName } from '../../src/simulators/names.js';
import { rulesOf, transportsOf, type Schedule } from '../../src/simulators/schedule.js';
import { ownEmptyPostgresIn, ownRedisIn, type OwnStore } from '../support/own-store.js';
import { Fleet } from './fleet.js';

const ADMIN_PASSWORD = 'correct horse battery';
/** What a loaded spare takes beside the pages that all share. */
const SPARE_MB = 45;

export interface ChaosWorldOptions {
  readonly seed: string;
  readonly timeScale: number;
  readonly workers: number;
  /** Processes that will be started in all. */
  readonly starts: number;
  readonly schedule: Schedule;
  /** What its shares of time are shares of. */
  readonly makespanMs: number;
  /** Where programs that the stores need are kept. */
  readonly stateFolder: string;
  /** Folder of the build. */
  readonly build: string;
  /** Of the one that the workers begin with, when it is another. */
  readonly firstBuild?: string | undefined;
}

/** One deployment at work on simulated systems: stores, simulators, an API and workers, each a process of its own. */
export interface ChaosWorld {
  readonly folder: string;
  readonly journal: string;
  readonly postgres: OwnStore;
  readonly redis: OwnStore;
  readonly fleet: Fleet;
  flush(): Promise<void>;
  /** From now on the schedule's faults happen, and others work on the cluster, until `calm`. */
  begin(): Promise<void>;
  calm(): Promise<void>;
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
    const programs: FaultyProgram[] = [];
    const start = async (sim: FaultyProgram['sim'], args: readonly string[]): Promise<FaultyProgram> => {
      const program = await startProgram(sim, args, { ...options, folder, journal });
      stops.push(() => ended(program.child));
      programs.push(program);
      return program;
    };
    await mkdir(site);
    const simulators = await start('simulators', ['all', '--time-scale', String(options.timeScale)]);
    await writeSite(site, simulators.line);
    const simulatorFile = join(folder, 'simulator.json');
    await writeFile(simulatorFile, simulators.line, { mode: 0o600 });
    const actors: ChildProcess[] = [];
    const calm = async (): Promise<void> => void (await Promise.all(actors.splice(0).map(ended)));
    stops.push(calm);
    const before: Partial<Record<TransportName, string>> = {};
    for (const sim of transportsOf(options.schedule)) {
      const to = { postgres: postgres.url, redis: redis.url, http: undefined }[sim];
      if (to === undefined) throw new Error(`Unable to begin: no transport stands before ${sim} here`);
      const { line } = await start(sim, ['transport', '--to', to]);
      const [endpoint] = (JSON.parse(line) as { endpoints: string[] }).endpoints;
      before[sim] = Object.assign(new URL(to), { host: new URL(endpoint!).host }).href;
    }
    const fleet = new Fleet({
      logFolder: folder,
      // Loading one takes seconds of a processor, which the run shall not pay for.
      spares: Math.floor((0.7 * freemem()) / (SPARE_MB * 2 ** 20)),
      starts: options.starts,
      build: options.build,
      env: {
        DATABASE_URL: before.postgres ?? postgres.url,
        REDIS_URL: before.redis ?? redis.url,
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
    const first = options.firstBuild ?? options.build;
    await Promise.all(Array.from({ length: options.workers }, () => fleet.startWorker(first)));
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
      async begin() {
        await beginFaults(programs, options);
        actors.push(...(await startActors(options, simulatorFile)));
      },
      calm,
      call: (method, path, more) => callUntilAnswered(() => `${fleet.url}${path}`, method, token, more),
      close,
    };
  } catch (error) {
    await close(false);
    throw error;
  }
}

/** A program that reads fault rules. */
interface FaultyProgram {
  readonly sim: 'simulators' | TransportName;
  readonly child: ChildProcess;
  readonly faultsFile: string;
  readonly startedAt: number;
  /** What it says when it listens. */
  readonly line: string;
}

async function startProgram(
  sim: FaultyProgram['sim'],
  args: readonly string[],
  { seed, folder, journal }: { seed: string; folder: string; journal: string },
): Promise<FaultyProgram> {
  const faultsFile = join(folder, `faults-${sim}.json`);
  await writeFile(faultsFile, '[]');
  const common = ['--seed', seed, '--journal', journal, '--faults', faultsFile];
  const child = spawnProgram([...args, ...common]);
  const startedAt = performance.now();
  return { sim, child, faultsFile, startedAt, line: await firstLine(child, args[0]!) };
}

const spawnProgram = (args: readonly string[]): ChildProcess =>
  spawn(process.execPath, [join(process.cwd(), 'dist', 'simulators', 'program.js'), ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });

async function firstLine(child: ChildProcess, name: string): Promise<string> {
  const [line] = (await Promise.race([
    once(createInterface(child.stdout!), 'line'),
    once(child, 'exit').then(() => []),
  ])) as [string?];
  if (line === undefined) throw new Error(`Unable to begin: ${name} did not start`);
  return line;
}

const nameOf = (who: string, index: number): string => `${who}-${index}`;
/** As the journal names who works on the cluster as the schedule's actor number `index`. */
export const accountOf = (who: string, index: number): string => `foreign-${nameOf(who, index)}@pve`;

/** The others who work on the cluster, each with an account and a seed of their own. */
async function startActors(
  { schedule, seed }: ChaosWorldOptions,
  simulatorFile: string,
): Promise<ChildProcess[]> {
  const started = [];
  for (const [index, { who, everySeconds }] of schedule.actors.entries()) {
    const habits = ['--who', who, '--every', String(everySeconds), '--name', nameOf(who, index)];
    const child = spawnProgram(['foreign', '--at', simulatorFile, '--seed', `${seed}-${index}`, ...habits]);
    await firstLine(child, who);
    started.push(child);
  }
  return started;
}

/** Gives each program its rules, with windows on its own clock. */
async function beginFaults(
  programs: readonly FaultyProgram[],
  { schedule, timeScale, makespanMs }: ChaosWorldOptions,
): Promise<void> {
  for (const { sim, child, faultsFile, startedAt } of programs) {
    const scale = sim === 'simulators' ? timeScale : 1;
    const startMs = (performance.now() - startedAt) / scale;
    const rules = rulesOf(schedule, sim, { startMs, timeScale: scale, makespanMs });
    await writeFile(faultsFile, JSON.stringify(rules));
    child.kill('SIGHUP');
  }
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
