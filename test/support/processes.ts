import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { ADMIN_PASSWORD } from './api-app.js';
import type { SimulatedSite } from './simulated-site.js';

const MAIN = join(import.meta.dirname, '..', '..', 'dist', 'app', 'main.js');

/** One process of the product, as the build that `npm test` makes starts it. */
export interface RoleProcess {
  readonly child: ChildProcess;
  /** Of an API. */
  readonly url: string | undefined;
  /** As a host loses its power. */
  kill(): Promise<void>;
  /** SIGTERM, and the end. */
  stop(): Promise<void>;
}

/** Everything that the processes of one deployment share: nothing else, no folder. */
export interface SharedSettings {
  readonly databaseUrl: string;
  readonly redisUrl: string;
  readonly redisPrefix: string;
  readonly site: SimulatedSite;
  /** A module that every process loads first, as a URL. */
  readonly preload?: string;
}

/** Starts one process for each of `roles`, all at the same moment; resolves when all are ready. Error: what the first one said that was not. */
export async function startRoles(
  shared: SharedSettings,
  roles: readonly ('api' | 'worker')[],
): Promise<RoleProcess[]> {
  const started = await Promise.allSettled(roles.map((role) => startRole(shared, role)));
  const processes = started.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  const failed = started.find((one) => one.status === 'rejected');
  if (failed === undefined) return processes;
  await Promise.all(processes.map((one) => one.kill()));
  throw failed.reason as Error;
}

async function startRole(shared: SharedSettings, role: 'api' | 'worker'): Promise<RoleProcess> {
  const child = fork(MAIN, {
    ...(shared.preload !== undefined && { execArgv: ['--import', shared.preload] }),
    env: {
      PATH: process.env['PATH'],
      HATCHERY_ROLE: role,
      DATABASE_URL: shared.databaseUrl,
      REDIS_URL: shared.redisUrl,
      REDIS_PREFIX: shared.redisPrefix,
      HATCHERY_DEPLOYMENT: 'demo',
      HATCHERY_SECRET_KEY: Buffer.alloc(32, 7).toString('base64'),
      HATCHERY_CONFIG_DIR: shared.site.configDir,
      HATCHERY_REMOTE_TIME_SCALE: String(shared.site.timeScale),
      HATCHERY_LOG_LEVEL: 'warn',
      // A folder that cannot be: no role of several may need one.
      HATCHERY_STATE_DIR: '/dev/null/none',
      ...(role === 'api' ? { HATCHERY_PORT: '0', HATCHERY_ADMIN_PASSWORD: ADMIN_PASSWORD } : {}),
    },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  let said = '';
  for (const stream of [child.stdout!, child.stderr!])
    stream.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-20_000)));
  const ended = once(child, 'exit');
  const ready = once(child, 'message') as Promise<[{ url?: string }]>;
  const first = await Promise.race([ready, ended.then(() => undefined)]);
  if (first === undefined) throw new Error(`a ${role} ended at its start: ${said}`);
  const end = (signal: NodeJS.Signals) => async (): Promise<void> => {
    child.kill(signal);
    await ended;
  };
  return { child, url: first[0].url, kill: end('SIGKILL'), stop: end('SIGTERM') };
}

/** A token of the first admin. */
export async function adminToken(url: string): Promise<string> {
  const answer = await fetch(`${url}/api/v1/auth/login`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ login: 'admin', password: ADMIN_PASSWORD }),
  });
  const { token } = (await answer.json()) as { token: string };
  return token;
}

/** POSTs a class of `count` under its name as the key, and gives the answer. */
export async function postClass(
  { url, token }: { url: string; token: string },
  name: string,
  count: number,
): Promise<Response> {
  const form = new FormData();
  form.set('blueprint', 'student-desktop');
  form.set('name', name);
  const rows = Array.from({ length: count }, (_, index) => `${name}${index};Nom;Prénom\n`);
  form.set('roster', new Blob([`login;nom;prénom\n${rows.join('')}`]), 'class.csv');
  return fetch(`${url}/api/v1/batches`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'idempotency-key': name },
    body: form,
  });
}
