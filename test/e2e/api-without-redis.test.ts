import { afterAll, beforeAll, expect, it } from 'vitest';
import { ADMIN_PASSWORD, startApi, type ApiApp } from '../support/api-app.js';
import { ownRedis, type OwnStore } from '../support/stores.js';

let redis: OwnStore;
let api: ApiApp;
beforeAll(async () => {
  redis = await ownRedis();
  api = await startApi({ redisUrl: redis.url });
  await redis.stop();
});
afterAll(async () => {
  await redis.restart();
  await api.close();
  await redis.remove();
});

it('signs nobody in while nobody counts the tries, says so soon, and goes on with what needs no Redis', async () => {
  const json = { login: 'admin', password: ADMIN_PASSWORD };
  const basic = `Basic ${Buffer.from(`admin:${ADMIN_PASSWORD}`).toString('base64')}`;
  const [login, board, list, metrics] = await Promise.all([
    api.call('POST', '/api/v1/auth/login', { json }),
    api.call('GET', '/queues/', { headers: { authorization: basic } }),
    api.call('GET', '/api/v1/batches', { token: api.adminToken }),
    api.call('GET', '/metrics'),
  ]);
  expect(await login.json()).toMatchObject({ status: 503, code: 'service-unreachable' });
  expect(Number(login.headers.get('retry-after'))).toBeGreaterThan(0);
  expect(board.status).toBe(503);
  expect(list.status).toBe(200);
  expect(metrics.status).toBe(200);
  const text = await metrics.text();
  expect(text).toContain('hatchery_steps{state="running"} 0');
  expect(text).not.toContain('hatchery_queue_jobs{');
});
