import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeApi } from '../../src/app/openapi-document.js';
import type { Intake } from '../../src/engine/intake.js';
import { servedRoutes, startApi, type ApiApp } from '../support/api-app.js';
import { seedBatch, type SeededBatch } from '../support/seeds.js';

type Who = 'anonymous' | 'owner' | 'stranger' | 'admin';

interface Route {
  readonly operation: string;
  readonly method: string;
  readonly path: string;
  readonly isMultipart: boolean;
  readonly isOpen: boolean;
}

const document = await describeApi();
const routes: Route[] = Object.entries(document.paths).flatMap(([path, item]) =>
  Object.entries(
    item as Record<string, { operationId: string; security?: unknown[]; requestBody?: { content: object } }>,
  ).map(([method, operation]) => ({
    operation: operation.operationId,
    method: method.toUpperCase(),
    path,
    isMultipart: 'multipart/form-data' in (operation.requestBody?.content ?? {}),
    isOpen: (operation.security ?? []).length === 0,
  })),
);

const OPEN = ['login', 'phoneHome'];
const ADMIN_ONLY = [
  'listUsers',
  'createUser',
  'listClusters',
  'checkCluster',
  'recordCluster',
  'listLimits',
  'setLimits',
  'listRestingVmids',
  'releaseVmid',
  'vendorData',
  'exportAll',
  'skipStep',
  'releaseEffect',
  'adoptEffect',
  'listReleased',
  'doctor',
  'drainWorker',
  'listGuests',
  'getTaskLog',
  'listLocks',
  'listSlots',
  'listWorkers',
  'pauseCluster',
  'resumeCluster',
];
/** Reaches one thing of one person. */
const OF_ONE = [
  'getBatch', 'deleteBatch', 'cancelBatch', 'addMachines', 'listBatchMachines', 'batchResults', 'batchCredentials', 'batchEvents',
  'getMachine', 'deleteMachine', 'getRun', 'listAttempts', 'retryRun', 'cancelRun', 'retryBatch',
]; // prettier-ignore
/** Everybody's own view: an answer whose content depends on who asks. */
const OF_ME = [
  'logout',
  'whoAmI',
  'listTokens',
  'createToken',
  'revokeToken',
  'planBatch',
  'createBatch',
  'listBatches',
  'listMachines',
  'listRuns',
  'listBlueprints',
  'events',
];

let api: ApiApp;
let batch: SeededBatch;
let tokens: Record<Who, string | undefined>;
let newToken: (who: Who) => Promise<string | undefined>;

const nothing = (): Promise<void> => Promise.resolve();
const intake: Intake = {
  plan: () => Promise.reject(new Error('not asked here')),
  create: () => Promise.resolve({ batchId: batch.id, replayed: false }),
  addMachines: () => Promise.resolve({ batchId: batch.id, replayed: false }),
  cancelBatch: nothing,
  deleteBatch: nothing,
  deleteMachine: nothing,
  retryRun: (runId) => Promise.resolve(runId),
  retryBatch: () => Promise.resolve({ resumed: 1, replaced: 0 }),
  credentials: () => Promise.resolve([]),
};

beforeAll(async () => {
  api = await startApi({ intake, runHandles: { cancel: nothing } });
  const [owner, stranger, admin] = [
    await api.makeUser('owner'),
    await api.makeUser('stranger'),
    await api.makeUser('boss', 'admin'),
  ];
  batch = await seedBatch(api.db, { name: 'mine', ownerId: owner.id, states: ['ready'] });
  tokens = { anonymous: undefined, owner: owner.token, stranger: stranger.token, admin: admin.token };
  newToken = async (who) => {
    const response = await api.call('POST', '/api/v1/tokens', {
      token: tokens[who],
      json: { name: 'throw-away' },
    });
    return ((await response.json()) as { token: string }).token;
  };
});
afterAll(() => api.close());

async function ask(route: Route, who: Who, token = tokens[who]): Promise<number> {
  const machine = batch.machines[0]!;
  const ids: Record<string, string> = {
    batches: 'mine',
    machines: machine.id,
    runs: machine.runId,
    clusters: 'main',
    tokens: machine.id,
    admin: machine.id,
  };
  const path = route.path.replace('{vmid}', '10000').replace(/\{\w+\}/, ids[route.path.split('/')[3]!]!);
  const form = new FormData();
  form.set('roster', new Blob(['login;nom;prénom\nada;L;A\n']), 'class.csv');
  if (route.operation !== 'addMachines') {
    form.set('name', 'mine');
    form.set('blueprint', 'desk');
  }
  const leaving = new AbortController();
  const response = await api.call(route.method, path, {
    token,
    signal: leaving.signal,
    ...(route.isMultipart ? { form } : {}),
  });
  leaving.abort();
  return response.status;
}

it('lists every route that is served in the description, and says for each who it is for', () => {
  const described = routes.map((route) => `${route.method} ${route.path.replaceAll(/\{(\w+)\}/g, ':$1')}`);
  const served = servedRoutes(api.app).filter((route) => route.includes(' /api/'));
  expect(served.filter((route) => !route.startsWith('HEAD')).sort()).toEqual(described.sort());
  expect(routes.map((route) => route.operation).sort()).toEqual(
    [...OPEN, ...ADMIN_ONLY, ...OF_ONE, ...OF_ME].sort(),
  );
});

const of = (operations: readonly string[]): Route[] =>
  routes.filter((route) => operations.includes(route.operation));

describe.each(of(OPEN))('$method $path', (route) => {
  it('is open, and judges what it is sent', async () => {
    expect(route.isOpen).toBe(true);
    expect(await ask(route, 'anonymous')).toBe(400);
  });
});

describe.each(routes.filter((route) => !OPEN.includes(route.operation)))('$method $path', (route) => {
  it('is closed to anonymous callers', async () => {
    expect(route.isOpen).toBe(false);
    expect(await ask(route, 'anonymous')).toBe(401);
  });
});

describe.each(of(ADMIN_ONLY))('$method $path', (route) => {
  it('is for admins', async () => {
    expect(await ask(route, 'owner')).toBe(403);
    expect([200, 204, 400, 404, 409]).toContain(await ask(route, 'admin'));
  });
});

describe.each(of(OF_ONE))('$method $path', (route) => {
  it('is found by its owner and by admins, and by nobody else', async () => {
    expect(await ask(route, 'stranger')).toBe(404);
    expect([200, 202]).toContain(await ask(route, 'owner'));
    expect([200, 202]).toContain(await ask(route, 'admin'));
  });
});

describe.each(of(OF_ME))('$method $path', (route) => {
  it('is for everybody who is signed in', async () => {
    for (const who of ['owner', 'stranger', 'admin'] as const)
      expect([401, 403]).not.toContain(await ask(route, who, await newToken(who)));
  });
});

it.each(['batches', 'machines', 'runs'])(
  'lists %s of a teacher to the teacher and to admins only',
  async (what) => {
    const seen = async (who: Who): Promise<number> =>
      (
        (await (await api.call('GET', `/api/v1/${what}`, { token: tokens[who] })).json()) as {
          items: object[];
        }
      ).items.length;
    expect([await seen('owner'), await seen('stranger'), await seen('admin')]).toEqual([1, 0, 1]);
  },
);

it('does not let a stranger filter runs by a foreign batch', async () => {
  expect((await api.call('GET', '/api/v1/runs?batch=mine', { token: tokens.stranger })).status).toBe(404);
});
