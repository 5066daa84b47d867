import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Redis } from 'ioredis';
import { LoginThrottle } from '../../src/app/auth/login-throttle.js';
import { ADMIN_PASSWORD, startApi, type ApiApp } from '../support/api-app.js';
import { redisPrefix, redisUrl } from '../support/stores.js';

let api: ApiApp;
beforeAll(async () => {
  api = await startApi();
});
afterAll(() => api.close());

const login = (name: string, password: string): Promise<Response> =>
  api.call('POST', '/api/v1/auth/login', { json: { login: name, password } });

describe('signing in', () => {
  it('gives the first admin of the settings a token that works', async () => {
    const response = await login('admin', ADMIN_PASSWORD);
    expect(response.status).toBe(200);
    const { token, user } = (await response.json()) as { token: string; user: object };
    expect(token).toMatch(/^hat_[A-Za-z0-9_-]{43}$/);
    expect(user).toMatchObject({ login: 'admin', role: 'admin' });
    const me = await api.call('GET', '/api/v1/auth/me', { token });
    expect(await me.json()).toEqual(user);
  });

  it('answers a wrong password, an unknown login and an account without password alike', async () => {
    await api.db.query(
      `insert into users (id, login, role) values (gen_random_uuid(), 'ldap.only', 'teacher')`,
    );
    const answers = await Promise.all([
      login('admin', 'nope'),
      login('nobody', 'nope'),
      login('ldap.only', 'nobody has this password'),
    ]);
    const bodies = (await Promise.all(answers.map((answer) => answer.json()))) as { requestId: string }[];
    for (const body of bodies) expect({ ...body, requestId: '' }).toEqual({ ...bodies[0], requestId: '' });
    expect(bodies[0]).toMatchObject({ status: 401, code: 'not-signed-in' });
  });

  it('refuses an empty password before anything is compared', async () => {
    const response = await login('ldap.only', '');
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      code: 'request-invalid',
      errors: [{ column: 'password' }],
    });
  });

  it('slows guessing of one account, whether it exists or not, and says when to come back', async () => {
    const tries = await Promise.all(Array.from({ length: 12 }, () => login('victim', 'guess')));
    expect(tries.map((answer) => answer.status).filter((status) => status === 401)).toHaveLength(10);
    const refused = tries.find((answer) => answer.status === 429);
    expect(Number(refused?.headers.get('retry-after'))).toBeGreaterThan(0);
    expect((await login('admin', ADMIN_PASSWORD)).status).toBe(200);
  });

  it('never counts without an end, whatever breaks between two commands', async () => {
    const redis = new Redis(redisUrl());
    const prefix = redisPrefix();
    // The process died between counting and setting the end.
    const name = Buffer.from('locked').toString('base64url');
    await redis.set(`${prefix}:login:account:${name}`, 51);
    const throttle = new LoginThrottle(redis, prefix);
    await expect(throttle.count('locked', '192.0.2.1')).rejects.toMatchObject({ code: 'too-many-requests' });
    const keys = await redis.keys(`${prefix}:*`);
    const ends = await Promise.all(keys.map((key) => redis.ttl(key)));
    redis.disconnect();
    expect(ends).toHaveLength(3);
    for (const seconds of ends) expect(seconds).toBeGreaterThan(0);
  });

  it('takes the addresses that one IPv6 customer has for one', async () => {
    const redis = new Redis(redisUrl());
    const throttle = new LoginThrottle(redis, redisPrefix());
    const guess = (host: number): Promise<void> => throttle.count('victim', `2001:db8:1:2::${host}`);
    for (let host = 1; host <= 10; host += 1) await guess(host);
    await expect(guess(11)).rejects.toMatchObject({ code: 'too-many-requests' });
    await expect(throttle.count('victim', '2001:db8:1:3::1')).resolves.toBeUndefined();
    redis.disconnect();
  });

  it('ends a session at once with logout', async () => {
    const { token } = (await (await login('admin', ADMIN_PASSWORD)).json()) as { token: string };
    expect((await api.call('POST', '/api/v1/auth/logout', { token })).status).toBe(204);
    expect((await api.call('GET', '/api/v1/auth/me', { token })).status).toBe(401);
  });
});

describe('tokens and accounts', () => {
  it('shows a token once, keeps its hash only, and forgets it when it is revoked', async () => {
    const { token: teacher } = await api.makeUser('token.owner');
    const made = await api.call('POST', '/api/v1/tokens', {
      token: teacher,
      json: { name: 'script', expiresInDays: 1 },
    });
    expect(made.status).toBe(201);
    const { id, token } = (await made.json()) as { id: string; token: string };
    const { rows } = await api.db.query(
      'select encode(token_hash, $2) as hash from api_tokens where id = $1',
      [id, 'escape'],
    );
    expect(JSON.stringify(rows)).not.toContain(token);
    expect((await api.call('GET', '/api/v1/auth/me', { token })).status).toBe(200);
    expect((await api.call('DELETE', `/api/v1/tokens/${id}`, { token: teacher })).status).toBe(204);
    expect((await api.call('GET', '/api/v1/auth/me', { token })).status).toBe(401);
  });

  it('lists every token that works, page by page, and none that has ended', async () => {
    const { id, token } = await api.makeUser('many.tokens');
    for (let number = 1; number <= 4; number += 1)
      await api.call('POST', '/api/v1/tokens', { token, json: { name: `script ${number}` } });
    await api.db.query(
      `update api_tokens set expires_at = now() - interval '1 day' where user_id = $1 and name = 'script 2'`,
      [id],
    );
    const names: string[] = [];
    for (let cursor: string | null = ''; cursor !== null;) {
      const response = await api.call('GET', `/api/v1/tokens?limit=2${cursor && `&cursor=${cursor}`}`, {
        token,
      });
      const page = (await response.json()) as { items: { name: string }[]; nextCursor: string | null };
      names.push(...page.items.map(({ name }) => name));
      cursor = page.nextCursor;
    }
    expect(names).toEqual(['script 4', 'script 3', 'script 1', 'test']);
  });

  it('does not let one person revoke the token of another', async () => {
    const [one, two] = [await api.makeUser('one'), await api.makeUser('two')];
    const { rows } = await api.db.query<{ id: string }>('select id from api_tokens where user_id = $1', [
      one.id,
    ]);
    expect((await api.call('DELETE', `/api/v1/tokens/${rows[0]!.id}`, { token: two.token })).status).toBe(
      404,
    );
    expect((await api.call('GET', '/api/v1/auth/me', { token: one.token })).status).toBe(200);
  });

  it('reads rights anew with each request', async () => {
    const { id, token } = await api.makeUser('changing');
    expect((await api.call('GET', '/api/v1/users', { token })).status).toBe(403);
    await api.db.query(`update users set role = 'admin' where id = $1`, [id]);
    expect((await api.call('GET', '/api/v1/users', { token })).status).toBe(200);
    await api.db.query(`update users set disabled_at = now() where id = $1`, [id]);
    expect((await api.call('GET', '/api/v1/users', { token })).status).toBe(401);
  });

  it('refuses an expired token', async () => {
    const { id, token } = await api.makeUser('late');
    await api.db.query(`update api_tokens set expires_at = now() - interval '1 second' where user_id = $1`, [
      id,
    ]);
    expect((await api.call('GET', '/api/v1/auth/me', { token })).status).toBe(401);
  });

  it('makes accounts for admins only, and one for each login whatever its case', async () => {
    const json = { login: 'jane.doe', password: 'long enough', role: 'teacher' };
    expect((await api.call('POST', '/api/v1/users', { token: api.adminToken, json })).status).toBe(201);
    const again = await api.call('POST', '/api/v1/users', { token: api.adminToken, json });
    expect(await again.json()).toMatchObject({ status: 409, code: 'name-taken' });
    const list = (await (await api.call('GET', '/api/v1/users', { token: api.adminToken })).json()) as {
      items: { login: string }[];
    };
    expect(list.items.map((user) => user.login)).toContain('jane.doe');
    expect(JSON.stringify(list)).not.toContain('argon2');
    const first = (await (
      await api.call('GET', '/api/v1/users?limit=1', { token: api.adminToken })
    ).json()) as { items: { login: string }[]; nextCursor: string };
    const second = (await (
      await api.call('GET', `/api/v1/users?limit=200&cursor=${first.nextCursor}`, { token: api.adminToken })
    ).json()) as { items: { login: string }[]; nextCursor: null };
    expect([...first.items, ...second.items].map((user) => user.login)).toEqual(
      list.items.map((user) => user.login),
    );
    expect(second.nextCursor).toBeNull();
  });

  it('writes no password and no token to the log', async () => {
    await login('admin', ADMIN_PASSWORD);
    const log = api.logLines.join('');
    expect(log).not.toContain(ADMIN_PASSWORD);
    expect(log).not.toContain(api.adminToken);
    expect(log).toContain('request answered');
  });
});

describe('the board of the queues', () => {
  const basic = (name: string, password: string): Record<string, string> => ({
    authorization: `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}`,
  });

  it('asks a browser to sign in and lets admins in, with a password or a token', async () => {
    const asked = await api.call('GET', '/queues/');
    expect([asked.status, asked.headers.get('www-authenticate')]).toEqual([
      401,
      expect.stringMatching(/^Basic /),
    ]);
    expect((await api.call('GET', '/queues/', { headers: basic('admin', ADMIN_PASSWORD) })).status).toBe(200);
    expect((await api.call('GET', '/queues/', { token: api.adminToken })).status).toBe(200);
  });

  it('is closed to teachers, also the programs behind its page', async () => {
    const { token } = await api.makeUser('curious');
    for (const path of [
      '/queues',
      '/queues/',
      '/queues/api/queues',
      '/QUEUES/api/queues',
      '/queues/api/queues/steps/clean/failed',
    ])
      expect((await api.call('GET', path, { token })).status, path).toBe(403);
    expect(
      (await api.call('GET', '/queues/api/queues', { headers: basic('curious', 'a long password') })).status,
    ).toBe(403);
  });
});
