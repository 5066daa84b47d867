import { afterAll, beforeAll, expect, it } from 'vitest';
import { systemClock } from '../../src/drivers/system-clock.js';
import type { Batch, BatchPlan, Machine } from '../../src/client/types.gen.js';
import { startProduct, type Product } from '../support/product.js';

let product: Product;
beforeAll(async () => {
  product = await startProduct();
});
afterAll(async () => product?.stop());

const roster = (count: number, prefix: string): File =>
  new File(
    [`login\n${Array.from({ length: count }, (_, nth) => `${prefix}${nth}`).join('\n')}\n`],
    'class.csv',
  );

function form(name: string, count: number): FormData {
  const body = new FormData();
  body.set('blueprint', 'student-desktop');
  body.set('name', name);
  body.set('roster', roster(count, name));
  return body;
}

async function send<T>(method: string, path: string, body?: FormData): Promise<T> {
  const { api } = product;
  const response = await api.call(method, `/api/v1/${path}`, {
    token: api.adminToken,
    ...(body === undefined ? {} : { form: body, headers: { 'idempotency-key': crypto.randomUUID() } }),
  });
  expect(response.status).toBeLessThan(300);
  return (await response.json()) as T;
}

it('a class is told when it is ready: in its plan, when it is accepted, on the way and for each machine, and no more when it is', async () => {
  const askedMs = Date.now();
  const plan = await send<BatchPlan>('POST', 'batches/plan', form('l3', 6));
  expect(plan.estimateSeconds).toBeGreaterThan(0);
  expect(Date.parse(plan.expectedReadyAt!)).toBeGreaterThan(askedMs);

  const accepted = await send<Batch>('POST', 'batches', form('l3', 6));
  expect(accepted.remainingSeconds).toBeGreaterThanOrEqual(0);
  expect(Date.parse(accepted.expectedReadyAt!)).toBeGreaterThan(Date.parse(accepted.createdAt));
  const { items: atWork } = await send<{ items: Machine[] }>('GET', 'batches/l3/machines');
  for (const { state, readyAt, expectedReadyAt } of atWork)
    expect(expectedReadyAt === null).toBe(state === 'ready' || readyAt !== null);

  let batch = accepted;
  for (; batch.state === 'working'; batch = await send<Batch>('GET', 'batches/l3'))
    await systemClock.sleep(50);
  expect(batch).toMatchObject({ state: 'ready', remainingSeconds: null, expectedReadyAt: null });
  const { items: ready } = await send<{ items: Machine[] }>('GET', 'batches/l3/machines');
  expect(ready.map(({ expectedReadyAt }) => expectedReadyAt)).toEqual(ready.map(() => null));
});
