import { afterAll, beforeAll, expect, it } from 'vitest';
import { startApi, type ApiApp } from '../support/api-app.js';
import { seedBatch, type SeededBatch } from '../support/seeds.js';

let api: ApiApp;
let batch: SeededBatch;

beforeAll(async () => {
  api = await startApi();
  const { id: ownerId } = await api.makeUser('teacher');
  const states = Array.from({ length: 1_100 }, (_, index): 'parked' | 'ready' =>
    index === 0 ? 'parked' : 'ready',
  );
  batch = await seedBatch(api.db, { name: 'l3-info', ownerId, states, errorCode: 'address-unknown' });
  const [{ runId, stepId, id }] = batch.machines as [SeededBatch['machines'][number]];
  await api.db.query(
    `insert into effects (id, kind, version, system, key, shared, step_id, payload)
     values ($1, 'guacamole.group', 1, 'guacamole', 'l3-info', true, $2, '{"secret":"payload"}')`,
    [runId, stepId],
  );
  await api.db.query('insert into effect_holders (effect_id, machine_id, step_id) values ($1, $2, $3)', [
    runId,
    id,
    stepId,
  ]);
  await api.db.query(
    `insert into reservations (kind, scope, value, released_at, rest_until, note) values ('vmid', 'main', '10999', now(), now(), 'left')`,
  );
});
afterAll(() => api.close());

type Row = Record<string, unknown> & { row: string };

const exported = async (): Promise<Response> => api.call('GET', '/api/v1/export', { token: api.adminToken });

it('tells every machine, run, effect and reservation once, and that it is whole', async () => {
  const response = await exported();
  expect(response.headers.get('content-type')).toBe('application/x-ndjson; charset=utf-8');
  const text = await response.text();
  const rows = text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Row);
  const of = (kind: string): Row[] => rows.filter(({ row }) => row === kind);
  expect(rows[0]).toMatchObject({ row: 'export', v: 1, name: 'test' });
  expect(rows.at(-1)).toEqual({ row: 'end', rows: rows.length - 2 });
  expect(new Set(of('machine').map(({ id }) => id))).toEqual(new Set(batch.machines.map(({ id }) => id)));
  expect(of('machine')).toHaveLength(1_100);
  expect(of('run')).toHaveLength(1_100);
  const [{ id, runId }] = batch.machines as [SeededBatch['machines'][number]];
  expect(of('machine').find((machine) => machine['id'] === id)).toMatchObject({
    name: 'vm-student1',
    vmid: 10_000,
    state: 'parked',
    code: 'address-unknown',
    run: runId,
    batch: 'l3-info',
  });
  expect(of('effect')).toMatchObject([
    { kind: 'guacamole.group', key: 'l3-info', run: runId, holders: [id] },
  ]);
  expect(of('reservation')).toMatchObject([{ kind: 'vmid', value: '10999', note: 'left', machine: null }]);
  expect(text).not.toContain('payload');
});

it('gives its connection back when the reader leaves in the middle', async () => {
  // More than the pool has.
  for (let count = 0; count < 15; count += 1) {
    const response = await exported();
    await response.body!.cancel();
  }
  expect((await exported()).status).toBe(200);
});
