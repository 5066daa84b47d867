import { Module, type DynamicModule } from '@nestjs/common';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { Express } from 'express';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';

import { readSettings } from '../../src/app/config/settings.js';
import type { SiteConfig } from '../../src/app/config/site.js';
import type { AppContext } from '../../src/app/context.js';
import { createLogger } from '../../src/app/logging/logger.js';
import { createApp } from '../../src/app/create-app.js';
import { ENGINE_PARTS } from '../../src/app/engine/engine-parts.js';
import { Accounts } from '../../src/app/auth/accounts.js';
import {
  CLUSTER_LIMITS,
  CLUSTER_PAUSES,
  CLUSTER_STOPS,
  HYPERVISORS,
  INTAKE,
  LOCKS,
  NODE_FILES,
  RUN_HANDLES,
  SERVICES,
  PHONE_HOME,
  REMAINING_TIMES,
  USE_OF,
  VMID_RESTS,
  WAKE_UPS,
  WORKERS,
} from '../../src/app/tokens.js';
import { ensureDeployment } from '../../src/drivers/postgres/migrations.js';
import type { Intake } from '../../src/engine/intake.js';
import type { RunHandles } from '../../src/engine/run-handles.js';
import type { PhoneHome } from '../../src/engine/phone-home.js';
import type { WakeUps } from '../../src/ports/dispatch.js';
import { redisPrefix, redisUrl, testDatabase, type TestDatabase } from './stores.js';

export const ADMIN_PASSWORD = 'correct horse battery';
const NO_SITE: SiteConfig = {
  clusters: [],
  services: [],
  domains: [],
  hooks: [],
  blueprints: [],
  workflowFiles: [],
};

@Module({})
class GivenEngine {}

/** Wake-ups inside one process, for an API whose engine is not under test. */
export class LocalWakeUps implements WakeUps {
  private readonly listeners = new Set<() => void>();
  notify(): void {
    for (const listener of this.listeners) listener();
  }
  on(_topic: string, listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}

export interface ApiApp {
  readonly url: string;
  readonly app: NestExpressApplication;
  readonly db: pg.Pool;
  readonly logLines: string[];
  readonly wakeUps: LocalWakeUps;
  /** A token of the first admin. */
  readonly adminToken: string;
  makeUser(login: string, role?: 'admin' | 'teacher'): Promise<{ id: string; token: string }>;
  /** Sends a request; `token` undefined = anonymous. */
  call(method: string, path: string, options?: CallOptions): Promise<Response>;
  close(): Promise<void>;
}

export interface CallOptions {
  readonly token?: string | undefined;
  readonly json?: unknown;
  readonly form?: FormData;
  readonly headers?: Record<string, string>;
  readonly signal?: AbortSignal;
}

/** The real application on the test stores. Without `engine`, commands go to `intake` and nothing works in the background. */
export async function startApi(
  options: {
    intake?: Partial<Intake>;
    runHandles?: Partial<RunHandles>;
    phoneHome?: Pick<PhoneHome, 'take'>;
    site?: SiteConfig;
    engine?: DynamicModule;
    env?: Record<string, string>;
    /** Instead of a database on the shared server. */
    database?: TestDatabase;
    /** Instead of the shared one. */
    redisUrl?: string;
  } = {},
): Promise<ApiApp> {
  const database = options.database ?? (await testDatabase());
  const folder = await mkdtemp(join(tmpdir(), 'hatchery-api-'));
  const logLines: string[] = [];
  const context: AppContext = {
    settings: readSettings({ HATCHERY_ADMIN_PASSWORD: ADMIN_PASSWORD, ...options.env }),
    site: options.site ?? NO_SITE,
    stores: {
      databaseUrl: database.url,
      redisUrl: options.redisUrl ?? redisUrl(),
      redisPrefix: redisPrefix(),
    },
    deployment: await ensureDeployment(database.url, 'test'),
    secretKey: Buffer.alloc(32, 1),
    stateDir: () => Promise.resolve(folder),
    logger: createLogger('trace', { write: (line: string) => void logLines.push(line) }),
  };
  const wakeUps = new LocalWakeUps();
  const app = await createApp(context, options.engine ?? givenEngine(options, wakeUps));
  await app.listen(0, '127.0.0.1');
  const url = (await app.getUrl()).replace('[::1]', '127.0.0.1');
  const db = new pg.Pool({ connectionString: database.url, max: 3 });
  db.on('error', () => undefined);
  const accounts = app.get(Accounts);
  const tokenOf = async (id: string): Promise<string> =>
    (await accounts.issueToken(id, 'test', undefined)).token;
  const [admin] = await accounts.listUsers();
  return {
    url,
    app,
    db,
    logLines,
    wakeUps,
    adminToken: await tokenOf(admin!.id),
    async makeUser(login, role = 'teacher') {
      const { id } = await accounts.createUser(login, 'a long password', role);
      return { id, token: await tokenOf(id) };
    },
    call: (method, path, call = {}) => send(`${url}${path}`, method, call),
    async close() {
      await app.close();
      await db.end();
      await database.drop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function givenEngine(
  {
    intake = {},
    runHandles = {},
    phoneHome = { take: async () => false },
  }: { intake?: Partial<Intake>; runHandles?: Partial<RunHandles>; phoneHome?: Pick<PhoneHome, 'take'> },
  wakeUps: WakeUps,
): DynamicModule {
  const recording = {
    format: 1,
    kind: 'proxmox',
    releases: [],
    timeScale: 1,
    counts: { nodes: 0, guests: 0 },
    calls: [],
    refusals: [],
  };
  const cluster = { cluster: 'main', check: async () => [], record: async () => recording };
  const hypervisors = { get: () => cluster, all: () => [] };
  return {
    module: GivenEngine,
    global: true,
    providers: [
      { provide: INTAKE, useValue: intake },
      { provide: RUN_HANDLES, useValue: runHandles },
      { provide: PHONE_HOME, useValue: phoneHome },
      { provide: WAKE_UPS, useValue: wakeUps },
      { provide: HYPERVISORS, useValue: hypervisors },
      { provide: NODE_FILES, useValue: new Map() },
      {
        provide: VMID_RESTS,
        useValue: { list: async () => [], find: async () => undefined, end: async () => false },
      },
      {
        provide: CLUSTER_LIMITS,
        useValue: { list: async () => [], set: async () => undefined },
      },
      {
        provide: USE_OF,
        useValue: async () => ({ blueprints: [], workflows: [], vmids: new Set(), restingVmids: new Set() }),
      },
      {
        provide: CLUSTER_PAUSES,
        useValue: { pause: async () => true, resume: async () => true },
      },
      { provide: SERVICES, useValue: [] },
      { provide: WORKERS, useValue: { drain: async () => true } },
      { provide: LOCKS, useValue: { held: async () => [] } },
      { provide: CLUSTER_STOPS, useValue: { of: async () => [] } },
      {
        provide: REMAINING_TIMES,
        useValue: { of: async () => ({ machines: new Map(), batches: new Map() }) },
      },
    ],
    exports: [...ENGINE_PARTS.keys()],
  };
}

function send(
  url: string,
  method: string,
  { token, json, form, headers = {}, signal }: CallOptions,
): Promise<Response> {
  return fetch(url, {
    method,
    headers: {
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(json === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    redirect: 'manual',
    ...(json === undefined ? {} : { body: JSON.stringify(json) }),
    ...(form === undefined ? {} : { body: form }),
    ...(signal === undefined ? {} : { signal }),
  });
}

/** Every route that Express serves for Nest's controllers, as `METHOD /path`. */
export function servedRoutes(app: NestExpressApplication): string[] {
  const server = app.getHttpAdapter().getInstance() as Express;
  const layers = (
    server as unknown as {
      router: { stack: { route?: { path: string; methods: Record<string, boolean> } }[] };
    }
  ).router.stack;
  return layers.flatMap(({ route }) =>
    route ? Object.keys(route.methods).map((method) => `${method.toUpperCase()} ${route.path}`) : [],
  );
}
