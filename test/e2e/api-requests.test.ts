import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { HatcheryError } from '../../src/core/errors.js';
import type { BatchRequest, Intake } from '../../src/engine/intake.js';
import { startApi, type ApiApp } from '../support/api-app.js';
import { seedBatch } from '../support/seeds.js';

const ROSTER = 'login;nom;prénom\nada;Lovelace;Ada\ngrace;Hopper;Grace\n';

let api: ApiApp;
let teacher: { id: string; token: string };
let asked: { request: BatchRequest; key: string | undefined }[];
let answer: { batchId: string; replayed: boolean };
let refusal: Error | undefined;

/** Stands for the engine: only what reaches it and what is made of its answers is looked at here. */
const intake: Partial<Intake> = {
  create(request, _actor, key) {
    asked.push({ request, key });
    return refusal ? Promise.reject(refusal) : Promise.resolve(answer);
  },
};

beforeAll(async () => {
  api = await startApi({ intake });
  teacher = await api.makeUser('teacher');
  const { id } = await seedBatch(api.db, { name: 'accepted', ownerId: teacher.id, states: ['reserved'] });
  answer = { batchId: id, replayed: false };
});
afterAll(() => api.close());
beforeEach(() => {
  asked = [];
  refusal = undefined;
});

function form(
  fields: Record<string, string>,
  roster: string | Uint8Array<ArrayBuffer> | undefined = ROSTER,
  field = 'roster',
): FormData {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) data.set(name, value);
  if (roster !== undefined) data.set(field, new Blob([roster]), 'class.csv');
  return data;
}
const UUID = '01994a3e-0000-7000-8000-000000000001';
const cursor = (key: unknown): string => Buffer.from(JSON.stringify(key)).toString('base64url');
const FIELDS = { blueprint: 'desk', name: 'class-1' };
const create = (data: FormData, headers: Record<string, string> = {}): Promise<Response> =>
  api.call('POST', '/api/v1/batches', { token: teacher.token, form: data, headers });

describe('creating a batch over HTTP', () => {
  it('hands parsed rows, fields and the key to the engine and answers 202 with the batch and its address', async () => {
    const response = await create(
      form({ ...FIELDS, skipExisting: 'true', notifyUrl: 'https://example.org/done' }),
      { 'idempotency-key': 'k1' },
    );
    expect(response.status).toBe(202);
    expect(response.headers.get('location')).toBe(`/api/v1/batches/${answer.batchId}`);
    expect(await response.json()).toMatchObject({
      id: answer.batchId,
      state: 'working',
      counts: { total: 1, reserved: 1, ready: 0 },
    });
    expect(asked).toMatchObject([
      {
        key: 'k1',
        request: {
          ...FIELDS,
          skipExisting: true,
          notifyUrl: 'https://example.org/done',
          rows: [{ login: 'ada' }, { login: 'grace' }],
        },
      },
    ]);
  });

  it('names every finding of a bad roster by row and column and never reaches the engine', async () => {
    const response = await create(form(FIELDS, 'login;nom\nada;L\n;M\nADA;N\n'));
    expect(response.status).toBe(422);
    expect(response.headers.get('content-type')).toMatch(/^application\/problem\+json/);
    const body = (await response.json()) as { code: string; errors: { row: number }[]; requestId: string };
    expect(body.code).toBe('roster-invalid');
    expect(body.errors.length).toBeGreaterThan(0);
    expect(body.requestId).toBe(response.headers.get('x-request-id'));
    expect(asked).toEqual([]);
  });

  it.each([
    ['an unknown field', form({ ...FIELDS, colour: 'red' }), 'request-invalid'],
    ['a missing field', form({ name: 'class-1' }), 'request-invalid'],
    ['a name that is no slug', form({ ...FIELDS, name: '../etc' }), 'request-invalid'],
    ['an address of another kind', form({ ...FIELDS, notifyUrl: 'file:///etc/passwd' }), 'request-invalid'],
    [
      'an address inside our networks',
      form({ ...FIELDS, notifyUrl: 'http://169.254.169.254/latest' }),
      'request-invalid',
    ],
    ['no file', form(FIELDS, ''), 'roster-invalid'],
    ['the file in another field', form(FIELDS, ROSTER, 'file'), 'request-invalid'],
  ])('refuses %s', async (_what, data, code) => {
    const response = await create(data);
    expect(await response.json()).toMatchObject({ code });
    expect(asked).toEqual([]);
  });

  it('refuses a file that is too large, and a form without any file', async () => {
    const large = await create(form(FIELDS, new Uint8Array(5 * 1024 * 1024 + 1)));
    expect(await large.json()).toMatchObject({ status: 413, code: 'payload-too-large' });
    const data = new FormData();
    data.set('blueprint', 'desk');
    data.set('name', 'class-1');
    expect(await (await create(data)).json()).toMatchObject({ status: 400, code: 'request-invalid' });
  });

  it('refuses a key that is none', async () => {
    expect(await (await create(form(FIELDS), { 'idempotency-key': 'a b' })).json()).toMatchObject({
      code: 'request-invalid',
    });
  });

  it('shows a refusal of the engine with its status, hint and findings', async () => {
    refusal = new HatcheryError(
      'already-has-machine',
      'Unable to create the batch: 1 of 2 people already have one',
      {
        hint: 'Use skipExisting.',
        problems: [{ row: 2, code: 'already-has-machine', detail: 'ada has one' }],
      },
    );
    const response = await create(form(FIELDS));
    expect(response.status).toBe(409);
    expect(await response.json()).toMatchObject({
      code: 'already-has-machine',
      hint: 'Use skipExisting.',
      errors: [{ row: 2 }],
    });
  });

  it('keeps what broke inside to the log, with the id that the client gets', async () => {
    // As the database driver throws: with the statement and everything that was in it.
    refusal = Object.assign(new Error('password of postgres is hunter2'), {
      query: 'insert into api_tokens',
      parameters: ['a hash of something'],
    });
    const response = await create(form(FIELDS));
    const text = await response.text();
    expect(response.status).toBe(500);
    expect(text).not.toMatch(/hunter2|at .*\.ts/);
    const { requestId } = JSON.parse(text) as { requestId: string };
    expect(api.logLines.find((line) => line.includes(requestId) && line.includes('hunter2'))).toBeDefined();
    expect(api.logLines.join('')).not.toMatch(/a hash of something|insert into api_tokens/);
  });
});

describe('requests in general', () => {
  it('answers unknown routes and broken JSON as problems', async () => {
    expect(await (await api.call('GET', '/api/v1/nothing', { token: teacher.token })).json()).toMatchObject({
      status: 404,
      code: 'not-found',
    });
    const broken = await fetch(`${api.url}/api/v1/auth/login`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{',
    });
    expect(await broken.json()).toMatchObject({ status: 400, code: 'request-invalid' });
    const large = await api.call('POST', '/api/v1/auth/login', {
      json: { login: 'x', password: 'y'.repeat(300_000) },
    });
    expect(await large.json()).toMatchObject({ status: 413, code: 'payload-too-large' });
  });

  it.each([
    ['GET', '/api/v1/batches/%00', undefined],
    ['GET', '/api/v1/batches/a%1Bb/machines', undefined],
    ['GET', '/api/v1/runs?code=%00', undefined],
    ['GET', '/api/v1/runs?batch=a%00b', undefined],
    ['GET', `/api/v1/batches/accepted/machines?cursor=${cursor([9007199254740991, UUID])}`, undefined],
    ['GET', `/api/v1/batches?cursor=${cursor([[UUID]])}`, undefined],
    ['POST', '/api/v1/auth/login', { login: 'a\u0000b', password: 'x' }],
    ['POST', '/api/v1/tokens', { name: 'a\u0000b' }],
    ['POST', '/api/v1/tokens', { name: 'a\u001b]8;;http://evil\u0007' }],
    ['POST', '/api/v1/tokens', { name: 'safe\u202e' }],
  ])('refuses %s %s with characters or numbers that no table holds', async (method, path, json) => {
    const response = await api.call(method, path, { token: teacher.token, json });
    expect(await response.json()).toMatchObject({ status: 400, code: 'request-invalid' });
  });

  it('says what it does not know in few words', async () => {
    const json = Object.fromEntries(Array.from({ length: 10_000 }, (_, at) => [`key${at}`, 1]));
    const response = await api.call('POST', '/api/v1/tokens', { token: teacher.token, json });
    expect((await response.text()).length).toBeLessThan(2000);
  });

  it('tells how a batch name is written, and an id', async () => {
    const named = (await (await create(form({ ...FIELDS, name: 'L3 Info été' }))).json()) as {
      detail: string;
    };
    expect(named.detail).toMatch(/name: .*Write l3-info-ete\.$/);
    const byId = await create(form({ ...FIELDS, name: UUID }));
    expect(await byId.json()).toMatchObject({ code: 'request-invalid' });
    const run = await api.call('GET', '/api/v1/runs/nope', { token: teacher.token });
    expect(await run.json()).toMatchObject({
      status: 400,
      detail: expect.stringContaining('an id') as string,
    });
  });

  it('refuses unknown properties of a body and of a query', async () => {
    const body = await api.call('POST', '/api/v1/auth/login', {
      json: { login: 'x', password: 'y', role: 'admin' },
    });
    expect(await body.json()).toMatchObject({ code: 'request-invalid' });
    const query = await api.call('GET', '/api/v1/batches?owner=me', { token: teacher.token });
    expect(await query.json()).toMatchObject({ code: 'request-invalid' });
  });

  it('keeps a clean request id of the caller and replaces any other', async () => {
    const kept = await api.call('GET', '/health/live', { headers: { 'x-request-id': 'trace-1.2_3' } });
    expect(kept.headers.get('x-request-id')).toBe('trace-1.2_3');
    const replaced = await api.call('GET', '/health/live', { headers: { 'x-request-id': 'a"b' } });
    expect(replaced.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('sends headers that keep browsers careful', async () => {
    const answer = await api.call('GET', '/api/v1/batches', { token: teacher.token });
    expect(answer.headers.get('cache-control')).toBe('no-store');
    const { headers } = await api.call('GET', '/docs/');
    expect(headers.get('content-security-policy')).toContain("default-src 'self'");
    expect(headers.get('content-security-policy')).not.toContain('upgrade-insecure-requests');
    expect(headers.get('x-powered-by')).toBeNull();
  });

  it('serves the description and its page without sign-in', async () => {
    const response = await api.call('GET', '/docs/openapi.json');
    expect(await response.json()).toMatchObject({ openapi: '3.0.0', info: { title: 'Hatchery' } });
    expect(await (await api.call('GET', '/docs/')).text()).toContain('swagger-ui');
  });
});

describe('probes', () => {
  it('says that the process lives and that its stores answer', async () => {
    expect(await (await api.call('GET', '/health/live')).json()).toEqual({ status: 'ok' });
    const ready = await api.call('GET', '/health/ready');
    expect([ready.status, await ready.json()]).toMatchObject([
      200,
      { status: 'ok', details: { postgres: { status: 'up' }, redis: { status: 'up' } } },
    ]);
  });

  it('gives metrics to a scraper on this machine, and through a proxy to admins only', async () => {
    await seedBatch(api.db, {
      name: 'measured',
      ownerId: teacher.id,
      states: ['creating', 'creating'],
      firstVmid: 11_000,
    });
    const local = await (await api.call('GET', '/metrics')).text();
    expect(local).toContain('hatchery_queue_jobs{state="waiting"}');
    expect(local).toMatch(/hatchery_steps\{state="running"\} [1-9]/);
    expect(local).toContain('hatchery_remote_call_seconds');
    expect(local).toContain('hatchery_http_request_seconds_bucket');
    expect((await api.call('GET', '/metrics', { token: teacher.token })).status).toBe(403);
    const proxied = { 'x-forwarded-for': '192.0.2.7' };
    expect((await api.call('GET', '/metrics', { headers: proxied })).status).toBe(401);
    expect((await api.call('GET', '/metrics', { headers: proxied, token: teacher.token })).status).toBe(403);
    expect((await api.call('GET', '/metrics', { headers: proxied, token: api.adminToken })).status).toBe(200);
  });
});
