import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { EngineModule } from '../../src/app/engine/engine.module.js';
import { loadSite } from '../../src/app/config/site.js';
import { startApi, type ApiApp } from '../support/api-app.js';
import { readCollection, sendRequest } from '../support/bruno.js';
import { simulatedSite, type SimulatedSite } from '../support/simulated-site.js';

const FOLDER = join(import.meta.dirname, '..', '..', 'docs', 'api');
const collection = await readCollection(FOLDER);
const variables: Record<string, string> = { batch: 'l3-info', cluster: 'main', step: 'desktop' };
const sent = new Set<string>();

let site: SimulatedSite;
let api: ApiApp;

beforeAll(async () => {
  site = await simulatedSite();
  api = await startApi({
    site: loadSite({ configDir: site.configDir, env: {} }),
    engine: EngineModule.create(),
    env: {
      HATCHERY_REMOTE_TIME_SCALE: String(site.timeScale),
      HATCHERY_ADMIN_PASSWORD: 'the password',
      HATCHERY_PUBLIC_URL: 'https://hatchery.example.org',
    },
  });
  variables['baseUrl'] = api.url;
});
afterAll(async () => {
  await api.close();
  await site.stop();
});

interface Answer {
  readonly status: number;
  // oxlint-disable-next-line no-explicit-any -- bodies of thirty operations
  readonly body: any;
}

async function send(name: string): Promise<Answer> {
  const request = collection.get(name);
  if (!request) throw new Error(`the collection has no ${name}`);
  sent.add(name);
  const response = await sendRequest(request, variables, FOLDER);
  const text = await response.text();
  // An export is one JSON object per line.
  const isList = response.headers.get('content-type')?.includes('ndjson') === true;
  return { status: response.status, body: text === '' || isList ? undefined : JSON.parse(text) };
}

async function ok(name: string, status = 200): Promise<Answer['body']> {
  const answer = await send(name);
  expect(answer, name).toMatchObject({ status });
  return answer.body;
}

/** Follows the events of the batch until `isEnough` likes how far it is. */
async function follow(
  name: string,
  isEnough: (data: { type: string; state: string; batch: string }) => boolean,
): Promise<void> {
  const leaving = new AbortController();
  sent.add(name);
  const response = await sendRequest(collection.get(name)!, variables, FOLDER, leaving.signal);
  expect(response.headers.get('content-type')).toBe('text/event-stream');
  let text = '';
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    const lines = text.split('\n');
    text = lines.pop() ?? '';
    const events = lines
      .filter((line) => line.startsWith('data: '))
      .map((line) => JSON.parse(line.slice(6)) as { type: string; state: string; batch: string });
    if (events.some(isEnough)) break;
  }
  leaving.abort();
}
const isAtRest = (event: { type: string; state: string }): boolean =>
  event.type === 'batch.progress' && event.state !== 'working' && event.state !== 'deleting';

const isGone = (event: { type: string; state: string }): boolean =>
  event.type === 'batch.progress' && event.state === 'deleted';

it('signs in and manages accounts and tokens', async () => {
  variables['token'] = (await ok('login')).token;
  await ok('whoAmI');
  await ok('createUser', 201);
  await ok('listUsers');
  variables['tokenId'] = (await ok('createToken', 201)).id;
  await ok('listTokens');
  await ok('revokeToken', 204);
});

it('shows what the site offers', async () => {
  expect((await ok('listBlueprints')).items).toMatchObject([
    { name: 'debian-12-lxc' },
    { name: 'debian-desktop-lxc' },
    { name: 'student-desktop' },
  ]);
  expect((await ok('listClusters')).items).toMatchObject([{ name: 'main' }]);
  expect(await ok('checkCluster')).toMatchObject({ cluster: 'main' });
  expect(await ok('recordCluster')).toMatchObject({ format: 1, counts: { nodes: 3 } });
  expect((await ok('listRestingVmids')).items).toEqual([]);
  expect(await ok('vendorData')).toMatchObject({
    volume: null,
    text: expect.stringContaining('#cloud-config'),
  });
});

it('plans and makes a batch, and follows it until it is ready', async () => {
  expect((await ok('planBatch')).counts).toMatchObject({ rows: 2, ok: 2 });
  await ok('createBatch', 202);
  await follow('events', (event) => event.type === 'machine.state');
  await follow('batchEvents', isAtRest);
  expect(await ok('getBatch')).toMatchObject({ state: 'ready', counts: { total: 2, ready: 2 } });
  expect((await ok('listBatches')).items).toHaveLength(1);
  expect((await ok('batchResults')).causes).toEqual([]);
});

it('shows machines and runs', async () => {
  variables['machineId'] = (await ok('listBatchMachines')).items[0].id;
  expect((await ok('listMachines')).items).toHaveLength(2);
  expect(await ok('getMachine')).toMatchObject({ state: 'ready', login: 'jdupont' });
  variables['runId'] = (await ok('listRuns')).items[0].id;
  const run = await ok('getRun');
  expect(run).toMatchObject({ state: 'done', advice: null, deeds: [] });
  const clone = run.steps.find(({ key }: { key: string }) => key === 'clone');
  expect(clone).toMatchObject({ attempts: [{ outcome: 'done', by: { pid: process.pid } }], slots: [] });
  variables['task'] = clone.remote[0].task;
  expect(await ok('getTaskLog')).toMatchObject({
    task: expect.stringMatching(/^UPID:.*:qmclone:/),
    lines: expect.arrayContaining(['TASK OK']),
  });
  expect((await ok('listAttempts')).items.length).toBeGreaterThanOrEqual(8);
});

it('shows the limits of a cluster, and fixes one', async () => {
  const limitOf = (items: { resource: string }[]) =>
    items.find(({ resource }) => resource === 'clones@storage:main/ceph');
  expect(limitOf((await ok('listLimits')).items)).toMatchObject({
    configured: 5,
    rule: 'lock-wait',
    bounds: { min: 1, max: 10 },
    inUse: 0,
  });
  expect(limitOf((await ok('setLimits')).items)).toMatchObject({ limit: 6, rule: 'fixed', configured: 5 });
});

it('exports everything', async () => {
  await ok('exportAll');
});

it('refuses what cannot be done now with the reason', async () => {
  expect(await ok('retryRun', 409)).toMatchObject({ code: 'not-applicable' });
  expect(await ok('retryBatch', 409)).toMatchObject({ code: 'not-applicable' });
  expect(await ok('skipStep', 409)).toMatchObject({ code: 'not-applicable' });
  variables['effect'] = variables['runId']!;
  expect(await ok('adoptEffect', 404)).toMatchObject({ code: 'not-found' });
  expect(await ok('batchCredentials', 409)).toMatchObject({ code: 'not-applicable' });
  variables['vmid'] = '10000';
  expect(await ok('releaseVmid', 409)).toMatchObject({ code: 'not-applicable' });
  expect(await ok('phoneHome', 404)).toMatchObject({ code: 'not-found' });
});

it('pauses a cluster, and goes on', async () => {
  expect(await ok('pauseCluster')).toMatchObject({ stops: [{ code: 'cluster-paused' }] });
  expect(await ok('resumeCluster')).toMatchObject({ name: 'main', stops: [] });
  expect(await ok('resumeCluster', 409)).toMatchObject({ code: 'not-applicable' });
});

it('looks at everything that has to work, and at the guests of others', async () => {
  const { verdict, findings } = await ok('doctor');
  const of = (check: string) => findings.find((one: { check: string }) => one.check === check);
  for (const check of [
    'postgres',
    'redis',
    'clock',
    'workers',
    'outbox',
    'sweeps',
    'runs',
    'parked machines',
  ])
    expect(of(check), check).toMatchObject({ verdict: 'ok', remedy: null });
  expect(of('guacamole guacamole')).toMatchObject({ verdict: 'ok' });
  expect(verdict).toBe(findings[0].verdict);
  expect((await ok('listGuests')).items).toContainEqual(
    expect.objectContaining({ vmid: 10_003, what: 'foreign', mark: null, machine: null, next: null }),
  );
});

it('shows who holds what', async () => {
  const workers = (await ok('listWorkers')).items;
  expect(workers).toMatchObject([{ state: 'alive', pid: process.pid }]);
  variables['workerId'] = workers[0].id;
  expect((await ok('listSlots')).items).toEqual([]);
  expect((await ok('listLocks')).items).toContainEqual(
    expect.objectContaining({
      name: 'dispatcher:main',
      holder: expect.stringContaining(`process ${process.pid} on `),
    }),
  );
});

it('adopts and releases what a machine is made of', async () => {
  const { effects } = (await ok('getRun')) as { effects: { id: string; kind: string; state: string }[] };
  const effect = effects.find(({ kind }) => kind === 'dhcp-filter')!;
  variables['effect'] = effect.id;
  expect(await ok('adoptEffect')).toMatchObject({ proof: expect.stringContaining('[hatchery ') });
  await ok('releaseEffect', 202);
  expect((await ok('listReleased')).items).toMatchObject([{ id: effect.id, by: 'admin' }]);
});

it('adds, deletes and cancels until nothing is left', async () => {
  await ok('addMachines', 202);
  await ok('cancelRun', 202);
  await ok('deleteMachine', 202);
  await ok('cancelBatch', 202);
  await follow('batchEvents', isGone);
  expect(await ok('getBatch')).toMatchObject({ state: 'deleted' });
  await ok('createBatch', 202);
  await follow('batchEvents', isAtRest);
  await ok('deleteBatch', 202);
  await follow('batchEvents', isGone);
  expect(await ok('getBatch')).toMatchObject({ state: 'deleted' });
});

it('has sent every request of the collection', async () => {
  await ok('drainWorker', 204);
  expect(await ok('drainWorker', 409)).toMatchObject({ code: 'not-applicable' });
  await ok('logout', 204);
  expect([...collection.keys()].filter((name) => !sent.has(name))).toEqual([]);
});
