import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { startApi, type ApiApp } from '../support/api-app.js';
import { seedBatch, type SeededBatch } from '../support/seeds.js';

interface Page {
  items: Record<string, unknown>[];
  nextCursor: string | null;
}

let api: ApiApp;
let teacher: { id: string; token: string };
let batch: SeededBatch;

beforeAll(async () => {
  api = await startApi();
  teacher = await api.makeUser('teacher');
  await seedBatch(api.db, {
    name: 'small',
    ownerId: (await api.makeUser('other')).id,
    states: ['ready'],
    firstVmid: 14_000,
  });
  batch = await seedBatch(api.db, {
    name: 'l3-info',
    ownerId: teacher.id,
    states: ['ready', 'creating', 'parked', 'parked', 'failed'],
    errorCode: 'address-unknown',
  });
});
afterAll(() => api.close());

const get = async <T>(path: string, token = teacher.token): Promise<T> =>
  (await (await api.call('GET', `/api/v1/${path}`, { token })).json()) as T;

async function walk(path: string): Promise<Record<string, unknown>[]> {
  const items = [];
  for (let cursor = ''; ;) {
    const page = await get<Page>(
      `${path}${path.includes('?') ? '&' : '?'}limit=2${cursor && `&cursor=${cursor}`}`,
    );
    expect(page.items.length).toBeLessThanOrEqual(2);
    items.push(...page.items);
    if (page.nextCursor === null) return items;
    cursor = page.nextCursor;
  }
}

describe('lists', () => {
  it('give every machine of a batch once, in the order of the roster, page by page', async () => {
    const items = await walk('batches/l3-info/machines');
    expect(items.map((item) => item['login'])).toEqual([
      'student1',
      'student2',
      'student3',
      'student4',
      'student5',
    ]);
  });

  it('give machines, runs and batches newest first, page by page', async () => {
    expect((await walk('machines')).map((item) => item['id'])).toEqual(
      batch.machines.map(({ id }) => id).reverse(),
    );
    expect((await walk('runs')).map((item) => item['id'])).toEqual(
      batch.machines.map(({ runId }) => runId).reverse(),
    );
    for (const [index, name] of ['b1', 'b2', 'b3'].entries())
      await seedBatch(api.db, { name, ownerId: teacher.id, states: ['ready'], firstVmid: 12_000 + index });
    expect((await walk('batches')).map((item) => item['name'])).toEqual(['b3', 'b2', 'b1', 'l3-info']);
  });

  it('filter by state, code, batch and machine', async () => {
    expect((await get<Page>('machines?state=parked')).items).toHaveLength(2);
    expect((await get<Page>('runs?batch=l3-info&state=parked&code=address-unknown')).items).toHaveLength(3);
    expect((await get<Page>(`runs?machine=${batch.machines[0]!.id}`)).items).toHaveLength(1);
    expect((await get<Page>('runs?code=no-capacity')).items).toEqual([]);
  });

  it('refuse limits beyond 200 and cursors that are not ours', async () => {
    expect(await get('machines?limit=201')).toMatchObject({ code: 'request-invalid' });
    expect(await get('machines?cursor=abc')).toMatchObject({ code: 'request-invalid' });
    expect(await get(`machines?cursor=${Buffer.from('["x"]').toString('base64url')}`)).toMatchObject({
      code: 'request-invalid',
    });
  });
});

describe('one batch', () => {
  it('answers to its id and to its name, with machines counted by state', async () => {
    const byName = await get<Record<string, unknown>>('batches/l3-info');
    expect(byName).toMatchObject({
      id: batch.id,
      owner: 'teacher',
      state: 'working',
      counts: { total: 5, ready: 1, parked: 2, failed: 1, deleted: 0 },
    });
    expect(await get(`batches/${batch.id}`)).toEqual(byName);
  });

  it('is found by its name after it was deleted, unless a new one has the name', async () => {
    const first = await seedBatch(api.db, {
      name: 'again',
      ownerId: teacher.id,
      states: ['deleted'],
      firstVmid: 13_000,
    });
    await api.db.query('update batches set deleted_at = now() where id = $1', [first.id]);
    expect(await get('batches/again')).toMatchObject({ id: first.id, state: 'deleted' });
    const second = await seedBatch(api.db, {
      name: 'again',
      ownerId: teacher.id,
      states: ['creating'],
      firstVmid: 13_001,
    });
    expect(await get('batches/again')).toMatchObject({ id: second.id, state: 'working' });
  });

  it('shows results with failures grouped by cause and the next command', async () => {
    const results = await get<{ causes: object[]; items: Record<string, unknown>[] }>(
      'batches/l3-info/results',
    );
    expect(results.causes).toMatchObject([{ code: 'address-unknown', count: 3 }]);
    expect(results.items[2]).toMatchObject({
      login: 'student3',
      state: 'parked',
      code: 'address-unknown',
      next: `hatchery run retry ${batch.machines[2]!.runId}`,
    });
  });

  it('gives results as CSV that no spreadsheet takes for formulas', async () => {
    await api.db.query(`update machines set last_name = '=cmd|calc' where id = $1`, [batch.machines[0]!.id]);
    const response = await api.call('GET', '/api/v1/batches/l3-info/results?format=csv', {
      token: teacher.token,
    });
    expect(response.headers.get('content-type')).toBe('text/csv; charset=utf-8');
    expect(response.headers.get('content-disposition')).toBe('attachment; filename=l3-info.csv');
    const text = await response.text();
    expect(text.split('\r\n')[0]).toContain('login,lastName,firstName,email,group,machine,vmid');
    expect(text).toContain(`"'=cmd|calc"`);
  });

  it.each([
    ['batches?limit=50', 'batches?limit=1'],
    ['batches/l3-info', 'batches/small'],
    ['batches/l3-info/machines', 'batches/small/machines'],
    ['batches/l3-info/results', 'batches/small/results'],
    ['machines?limit=50', 'machines?limit=1'],
    ['runs?limit=50', 'runs?limit=1'],
  ])('reads %s with as many statements as %s', async (many, one) => {
    const query = vi.spyOn(pg.Client.prototype, 'query');
    const statements = async (path: string): Promise<number> => {
      query.mockClear();
      await get(path, api.adminToken);
      return query.mock.calls.length;
    };
    try {
      await statements(one);
      expect(await statements(many)).toBe(await statements(one));
    } finally {
      query.mockRestore();
    }
  });
});

describe('one run', () => {
  it('shows its steps with their attempts, and what was made outside', async () => {
    const { runId, stepId, id } = batch.machines[2]!;
    await api.db.query(
      `insert into attempts (step_id, epoch, kind, worker_id, outcome) values ($1, 1, 'act', gen_random_uuid(), 'retry')`,
      [stepId],
    );
    await api.db.query(
      `with e as (insert into effects (id, kind, version, system, key, shared, step_id, payload) values (gen_random_uuid(), 'guac-group', 1, 'guac', 'g', true, $1, '{}') returning id)
       insert into effect_holders (effect_id, machine_id, step_id) select id, $2, $1 from e`,
      [stepId, id],
    );
    expect(await get(`runs/${runId}`)).toMatchObject({
      id: runId,
      state: 'parked',
      error: { code: 'address-unknown' },
      steps: [
        {
          key: 'clone',
          uses: 'clone-template',
          attempts: [{ epoch: 1, outcome: 'retry', by: null }],
          attemptCount: 1,
        },
      ],
      effects: [{ kind: 'guac-group', step: 'clone', shared: true, state: 'intended' }],
    });
  });
});
