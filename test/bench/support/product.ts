import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { appendFile, chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { answer, apiClient } from '../../../src/cli/api.js';
import { firstLine, newStack, startProgram, type Stack } from '../../../src/cli/demo/children.js';
import { classRoster } from '../../../src/cli/demo/class-roster.js';
import { instanceSecrets } from '../../../src/cli/demo/instance-secrets.js';
import { DEPLOYMENT, writeSite } from '../../../src/cli/demo/site-files.js';
import { followBatch } from '../../../src/cli/follow-batch.js';
import type { Client } from '../../../src/client/client/index.js';
import { createBatch, createUser, login } from '../../../src/client/sdk.gen.js';
import type { Batch, Event } from '../../../src/client/types.gen.js';
import { vendorData } from '../../../src/core/vendor-data.js';
import { freePort } from '../../../src/drivers/embedded/free-port.js';
import type { GuardedProcess } from '../../../src/drivers/embedded/guarded-process.js';
import type { WorldSpec } from '../../../src/simulators/build-world.js';
import { cpuSecondsOfTree } from './cpu.js';
import { benchStores } from './stores.js';

export interface ProductOptions {
  /** Of the simulated systems and of the product's waits for them: 0.05 = 20 times faster than real. */
  readonly timeScale: number;
  readonly seed?: string;
  /** Left out = the default world. */
  readonly world?: WorldSpec;
  readonly workers?: number;
  readonly apis?: number;
  /** Guests phone home: the nodes hold the vendor data of this deployment. */
  readonly phoneHome?: boolean;
  /** YAML texts beside the blueprints that are shipped, by name. */
  readonly blueprints?: Readonly<Record<string, string>>;
  /** Further settings of the API and the workers. */
  readonly settings?: Readonly<Record<string, string>>;
}

const ROLES = ['api', 'workers', 'postgres', 'redis', 'simulator'] as const;
type CpuSeconds = Readonly<Record<(typeof ROLES)[number], number>>;

/** The whole product as it runs in service: stores, simulated systems, APIs and workers, each a process of its own, from `dist`. */
export interface BenchProduct {
  /** One per API. */
  readonly urls: readonly string[];
  readonly postgresUrl: string;
  readonly redisUrl: string;
  readonly journal: string;
  readonly timeScale: number;
  /** Signs in at one of the APIs; the teacher's account is made when it is not there. */
  signIn(login: string, url?: string): Promise<Client>;
  /** Used so far. */
  cpuSeconds(): Promise<CpuSeconds>;
  /** Rejects when a part ends that should not. */
  readonly broken: Promise<never>;
  stop(): Promise<void>;
}

const READY_TIMEOUT_MS = 60_000;
const TAIL_LINES = 8;
/** Of one batch; a whole benchmark is to take less than this. */
const LIMIT_MS = 15 * 60_000;
const VENDOR_DATA = 'local:snippets/hatchery.yaml';
const EXAMPLE = join(process.cwd(), 'examples', 'class-l3-info.csv');

/** Starts everything; what was started is stopped when it fails, at `stop`, and on Ctrl-C. */
export async function startProduct(options: ProductOptions): Promise<BenchProduct> {
  const stack = newStack();
  const interrupted = (): void => void stack.stop().finally(() => process.exit(130));
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.once(signal, interrupted);
  stack.add(async () => {
    for (const signal of signals) process.off(signal, interrupted);
  });
  try {
    return await startParts(options, stack);
  } catch (error) {
    await stack.stop();
    throw error;
  }
}

async function startParts(options: ProductOptions, stack: Stack): Promise<BenchProduct> {
  const folder = await mkdtemp(join(tmpdir(), 'hatchery-bench-'));
  await chmod(folder, 0o700);
  stack.add(() => rm(folder, { recursive: true, force: true }));
  const stores = await benchStores();
  stack.add(() => stores.close());

  const ended: Promise<never>[] = [];
  const start = async (
    name: string,
    program: string,
    {
      args = [],
      env,
      readsStdout = false,
    }: { args?: string[]; env: NodeJS.ProcessEnv; readsStdout?: boolean },
  ): Promise<{ process: GuardedProcess; logFile: string }> => {
    const logFile = join(folder, `${name}.log`);
    const process = await startProgram({ program, args, env, logFile, readsStdout });
    stack.add(() => process.stop());
    ended.push(process.ended.then(() => endedEarly(name, logFile)));
    return { process, logFile };
  };

  const journal = join(folder, 'journal.ndjson');
  const ports = await freePorts(options.apis ?? 1);
  const urls = ports.map((port) => `http://127.0.0.1:${port}`);
  const worldFile = join(folder, 'world.json');
  const world = options.world ?? {};
  await writeFile(worldFile, JSON.stringify(options.phoneHome ? withVendorData(world, urls[0]!) : world));
  const simulator = await start('simulator', 'simulators/program.js', {
    args: [
      ...['all', '--seed', options.seed ?? '1', '--time-scale', String(options.timeScale)],
      ...['--world', worldFile, '--journal', journal],
    ],
    env: plainEnvironment(),
    readsStdout: true,
  });
  const site = join(folder, 'site');
  await writeSite(site, await firstLine(simulator.process, simulator.logFile));
  if (options.phoneHome)
    await appendFile(join(site, 'clusters', 'main.yaml'), `vendorData: ${VENDOR_DATA}\n`);
  await mkdir(join(site, 'blueprints'));
  for (const [name, yaml] of Object.entries(options.blueprints ?? {}))
    await writeFile(join(site, 'blueprints', `${name}.yaml`), yaml);

  const secrets = await instanceSecrets(folder);
  const settings = {
    ...plainEnvironment(),
    DATABASE_URL: stores.postgresUrl,
    REDIS_URL: stores.redisUrl,
    HATCHERY_DEPLOYMENT: DEPLOYMENT,
    HATCHERY_CONFIG_DIR: site,
    HATCHERY_STATE_DIR: folder,
    HATCHERY_SECRET_KEY_FILE: secrets.secretKeyFile,
    HATCHERY_REMOTE_TIME_SCALE: String(options.timeScale),
    HATCHERY_PUBLIC_URL: urls[0],
    ...options.settings,
  };
  const apis: GuardedProcess[] = [];
  for (const [index, url] of urls.entries()) {
    const api = await start(`api-${index + 1}`, 'app/main.js', {
      env: {
        ...settings,
        HATCHERY_ROLE: 'api',
        HATCHERY_PORT: String(ports[index]),
        HATCHERY_ADMIN_LOGIN: secrets.admin.login,
        HATCHERY_ADMIN_PASSWORD_FILE: secrets.adminPasswordFile,
      },
    });
    await Promise.race([untilReady(url, api.logFile), ...ended]);
    apis.push(api.process);
  }
  const workers: GuardedProcess[] = [];
  for (let number = 1; number <= (options.workers ?? 2); number += 1) {
    const worker = await start(`worker-${number}`, 'app/main.js', {
      env: { ...settings, HATCHERY_ROLE: 'worker' },
    });
    workers.push(worker.process);
  }
  await Promise.race([untilAtWork(stores.postgresUrl, workers.length), ...ended]);
  const broken = Promise.race(ended);
  // At the end they all end, and nobody listens any more.
  broken.catch(() => undefined);

  const admin = await signInAt(urls[0]!, secrets.admin);
  const cpuOf = async (processes: readonly GuardedProcess[]): Promise<number> => {
    const seconds = await Promise.all(processes.map(({ pid }) => cpuSecondsOfTree(pid)));
    return seconds.reduce((sum, one) => sum + one, 0);
  };
  return {
    urls,
    postgresUrl: stores.postgresUrl,
    redisUrl: stores.redisUrl,
    journal,
    timeScale: options.timeScale,
    broken,
    async signIn(name, url = urls[0]!) {
      const account = { login: name, password: `password of ${name}` };
      await answer(createUser({ client: admin, body: { ...account, role: 'teacher' } })).catch(
        (error: { code?: string }) => {
          if (error.code !== 'name-taken') throw error;
        },
      );
      return signInAt(url, account);
    },
    async cpuSeconds() {
      const [api, ofWorkers, ofSimulator, ofStores] = await Promise.all([
        cpuOf(apis),
        cpuOf(workers),
        cpuOf([simulator.process]),
        stores.cpuSeconds(),
      ]);
      return { api, workers: ofWorkers, simulator: ofSimulator, ...ofStores };
    },
    stop: () => stack.stop(),
  };
}

/** Free ones, all different. */
async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) ports.add(await freePort());
  return [...ports];
}

/** The default storages and one for snippets, with the file that an admin puts there. */
function withVendorData(world: WorldSpec, publicUrl: string): WorldSpec {
  const nodes = ['pve1', 'pve2', 'pve3'];
  return {
    ...world,
    storages: [
      { id: 'ceph', type: 'rbd', shared: true, sizeGiB: 40_960 },
      { id: 'local-lvm', type: 'lvmthin', shared: false, sizeGiB: 1_024 },
      { id: 'local', type: 'dir', shared: false, sizeGiB: 100, content: ['snippets'] },
    ],
    files: nodes.map((node) => ({ volid: VENDOR_DATA, node, text: vendorData(publicUrl) })),
  };
}

/** Ours without any setting of the product. */
function plainEnvironment(): NodeJS.ProcessEnv {
  const settings = /^(HATCHERY_|DATABASE_URL|REDIS_)/;
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !settings.test(name)));
}

async function signInAt(url: string, account: { login: string; password: string }): Promise<Client> {
  const { token } = await answer(
    login({
      client: apiClient(url, undefined, fetch),
      body: { login: account.login, password: account.password },
    }),
  );
  return apiClient(url, token, fetch);
}

async function untilReady(url: string, logFile: string): Promise<void> {
  const giveUpAt = performance.now() + READY_TIMEOUT_MS;
  while (performance.now() < giveUpAt) {
    const isReady = await fetch(`${url}/health/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
    if (isReady) return;
    await sleep(50);
  }
  endedEarly('the API', logFile);
}

/** A worker has its row in the database when it is about to take work. */
async function untilAtWork(postgresUrl: string, workers: number): Promise<void> {
  const client = new pg.Client({ connectionString: postgresUrl });
  await client.connect();
  try {
    const giveUpAt = performance.now() + READY_TIMEOUT_MS;
    while (performance.now() < giveUpAt) {
      const { rows } = await client.query<{ count: number }>('select count(*)::int from workers');
      if (rows[0]!.count >= workers) return;
      await sleep(50);
    }
    throw new Error('Unable to go on: the workers do not start');
  } finally {
    await client.end();
  }
}

function endedEarly(name: string, logFile: string): never {
  let tail: string;
  try {
    tail = readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-TAIL_LINES).join('\n');
  } catch {
    tail = '';
  }
  throw new Error(`Unable to go on: ${name} ended or does not answer\n${tail}`);
}

/** A class list of `machines` people whose logins begin with `prefix`: several classes of one product need different people. */
export async function rosterOf(machines: number, prefix = ''): Promise<string> {
  const [header, ...rows] = classRoster(await readFile(EXAMPLE, 'utf8'), machines)
    .trimEnd()
    .split('\n');
  return [header, ...rows.map((row) => `${prefix}${row}`), ''].join('\n');
}

export interface Submitted {
  readonly batch: Batch;
  /** `process.hrtime.bigint()` before the request was sent and when its 202 was there: the journal's clock. */
  readonly sentAtNs: bigint;
  readonly acceptedAtNs: bigint;
}

export async function submitRoster(
  client: Client,
  { name, roster, blueprint = 'student-desktop' }: { name: string; roster: string; blueprint?: string },
): Promise<Submitted> {
  const file = new File([roster], `${name}.csv`, { type: 'text/csv' });
  const sentAtNs = process.hrtime.bigint();
  const batch = await answer(
    createBatch({
      client,
      body: { roster: file, blueprint, name },
      headers: { 'Idempotency-Key': randomUUID() },
    }),
  );
  return { batch, sentAtNs, acceptedAtNs: process.hrtime.bigint() };
}

export interface Followed {
  /** When whoever follows the batch heard that a machine is ready (`process.hrtime.bigint()`), by the machine's id. */
  readonly readyAtNs: ReadonlyMap<string, bigint>;
  readonly endedAtNs: bigint;
}

/** Follows the batch by its event stream until nothing of it moves any more. `seen`: each event, as it comes. Error: it still moves after `LIMIT_MS`. */
export async function followToEnd(
  product: Pick<BenchProduct, 'broken'>,
  client: Client,
  batch: Batch,
  seen: (event: Event) => void = () => undefined,
): Promise<Followed> {
  const readyAtNs = new Map<string, bigint>();
  const over = new AbortController();
  try {
    const following = followBatch(client, batch.id, {
      signal: over.signal,
      sleep: (ms, signal) => sleep(ms, undefined, { signal }).catch(() => undefined),
      outage: () => undefined,
      seen(event) {
        const { type, state, machine } = event;
        if (type === 'machine.state' && state === 'ready' && machine !== null && !readyAtNs.has(machine))
          readyAtNs.set(machine, process.hrtime.bigint());
        seen(event);
      },
      isOver: ({ type, state }) => type === 'batch.progress' && state !== 'working',
    });
    const isOver = await Promise.race([
      following,
      product.broken,
      sleep(LIMIT_MS, false, { signal: over.signal }),
    ]);
    if (!isOver)
      throw new Error(`Unable to measure: ${batch.name} is not over after ${LIMIT_MS / 60_000} minutes`);
    return { readyAtNs, endedAtNs: process.hrtime.bigint() };
  } finally {
    over.abort();
  }
}
