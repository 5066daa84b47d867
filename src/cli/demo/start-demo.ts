import { existsSync, readFileSync } from 'node:fs';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { HatcheryError } from '../../core/errors.js';
import { terminalText } from '../../core/terminal-text.js';
import { startEmbeddedPostgres } from '../../drivers/embedded/embedded-postgres.js';
import { startEmbeddedRedis } from '../../drivers/embedded/embedded-redis.js';
import { freePort } from '../../drivers/embedded/free-port.js';
import type { GuardedProcess } from '../../drivers/embedded/guarded-process.js';
import { CLAIM_FILE } from '../../drivers/embedded/folder-claim.js';
import { firstLine, startProgram, type Stack } from './children.js';
import { instanceSecrets, type InstanceSecrets } from './instance-secrets.js';
import type { DemoOptions } from './options.js';
import { clusterWithVendorData, DEPLOYMENT, writeSite } from './site-files.js';

export interface RunningDemo {
  readonly url: string;
  readonly journal: string;
  readonly secrets: InstanceSecrets;
  /** Rejects when a part ends that should not. */
  readonly broken: Promise<never>;
}

interface Place {
  readonly stateFolder: string;
  /** The instance's folder. */
  readonly folder: string;
  /** The environment that children get; ours without any setting of Hatchery. */
  readonly env: NodeJS.ProcessEnv;
  readonly log: (line: string) => void;
}

const READY_TIMEOUT_MS = 60_000;
const TAIL_LINES = 8;

/** Starts stores, simulated cluster, API and workers in this order; `stack` stops them in the reverse one. */
export async function startDemo(options: DemoOptions, place: Place, stack: Stack): Promise<RunningDemo> {
  const { stateFolder, folder, log } = place;
  const worldFile = join(folder, 'world.json');
  const keptFile = join(folder, 'kept');
  // A database without the cluster that it tells of would find another one under its name.
  if (!options.keep || !existsSync(worldFile) || !existsSync(keptFile)) await empty(folder);
  const logs = join(folder, 'logs');
  await mkdir(logs, { recursive: true, mode: 0o700 });
  const parts: { name: string; process: Pick<GuardedProcess, 'ended'>; logFile: string }[] = [];
  const keepTrack = <T extends { ended: Promise<unknown>; stop(): Promise<void> }>(
    name: string,
    logFile: string,
    part: T,
  ): T => {
    stack.add(() => part.stop());
    parts.push({ name, process: part as never, logFile });
    return part;
  };

  log('Starting Postgres and Redis ...');
  const stores = { stateFolder, dataFolder: folder, log };
  const [postgres, redis] = await Promise.all([
    startEmbeddedPostgres({ ...stores, fsync: options.keep }).then((store) =>
      keepTrack('Postgres', join(folder, 'postgres.log'), store),
    ),
    startEmbeddedRedis(stores).then((store) => keepTrack('Redis', join(folder, 'redis', 'redis.log'), store)),
  ]);

  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  // A cluster that is kept would send its machines to the address of an earlier demo.
  const phonesHome = !options.keep;
  const clusterFile = join(folder, 'cluster.yaml');
  if (phonesHome) await writeFile(clusterFile, clusterWithVendorData(url));

  log('Starting the simulated cluster ...');
  const journal = join(folder, 'journal.ndjson');
  const simulatorLog = join(logs, 'simulators.log');
  const simulators = keepTrack(
    'the simulated cluster',
    simulatorLog,
    await startProgram({
      program: 'simulators/program.js',
      args: [
        ...['all', '--seed', options.seed, '--time-scale', String(options.timeScale), '--journal', journal],
        ...(options.keep ? ['--state', worldFile] : []),
        ...(phonesHome ? ['--world', clusterFile] : []),
      ],
      env: place.env,
      logFile: simulatorLog,
      readsStdout: true,
    }),
  );
  const site = join(folder, 'site');
  await writeSite(site, await firstLine(simulators, simulatorLog), { phonesHome });

  const secrets = await instanceSecrets(folder);
  const settings = {
    ...place.env,
    DATABASE_URL: postgres.url,
    REDIS_URL: redis.url,
    HATCHERY_DEPLOYMENT: DEPLOYMENT,
    HATCHERY_CONFIG_DIR: site,
    HATCHERY_STATE_DIR: folder,
    HATCHERY_SECRET_KEY_FILE: secrets.secretKeyFile,
    HATCHERY_REMOTE_TIME_SCALE: String(options.timeScale),
    HATCHERY_PUBLIC_URL: url,
  };
  log(`Starting the API and ${options.workers} ${options.workers === 1 ? 'worker' : 'workers'} ...`);
  const apiLog = join(logs, 'api.log');
  const api = keepTrack(
    'the API',
    apiLog,
    await startProgram({
      program: 'app/main.js',
      env: {
        ...settings,
        HATCHERY_ROLE: 'api',
        HATCHERY_PORT: String(port),
        HATCHERY_ADMIN_LOGIN: secrets.admin.login,
        HATCHERY_ADMIN_PASSWORD_FILE: secrets.adminPasswordFile,
      },
      logFile: apiLog,
    }),
  );
  await untilReady(url, api, apiLog);
  if (options.keep) await writeFile(keptFile, '');
  for (let number = 1; number <= options.workers; number += 1) {
    const logFile = join(logs, `worker-${number}.log`);
    keepTrack(
      `worker ${number}`,
      logFile,
      await startProgram({
        program: 'app/main.js',
        env: { ...settings, HATCHERY_ROLE: 'worker' },
        logFile,
      }),
    );
  }
  const broken = Promise.race(
    parts.map(({ name, process, logFile }) => process.ended.then(() => endedEarly(name, logFile))),
  );
  // Nobody may be listening yet, or any more; whoever waits for the demo does it through this promise.
  broken.catch(() => undefined);
  return { url, journal, secrets, broken };
}

/** Everything but the claim on the folder. */
async function empty(folder: string): Promise<void> {
  for (const name of await readdir(folder))
    if (!name.startsWith(CLAIM_FILE)) await rm(join(folder, name), { recursive: true, force: true });
}

async function untilReady(url: string, api: GuardedProcess, logFile: string): Promise<void> {
  let hasEnded = false;
  void api.ended.then(() => (hasEnded = true));
  const giveUpAt = performance.now() + READY_TIMEOUT_MS;
  while (!hasEnded && performance.now() < giveUpAt) {
    const isReady = await fetch(`${url}/health/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
    if (isReady) return;
    await sleep(50);
  }
  endedEarly('the API', logFile);
}

function endedEarly(name: string, logFile: string): never {
  const tail = readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-TAIL_LINES);
  throw new HatcheryError('internal', `Unable to run the demo: ${name} ended or does not answer`, {
    hint: [`The end of ${logFile}:`, ...tail.map(terminalText)].join('\n'),
  });
}
