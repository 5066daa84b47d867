import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import pg from 'pg';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Accounts } from '../../src/app/auth/accounts.js';
import { prepare } from '../../src/app/boot/prepare.js';
import { readSettings } from '../../src/app/config/settings.js';
import { createApp } from '../../src/app/create-app.js';
import { EngineModule } from '../../src/app/engine/engine.module.js';
import { ownRedis, redisPrefix, redisUrl, testDatabase, type TestDatabase } from '../support/stores.js';

const quiet = pino({ level: 'silent' });
const pem = (body: string): string => `-----BEGIN CERTIFICATE-----\n${body}\n-----END CERTIFICATE-----\n`;

let database: TestDatabase;
let folder: string;
let env: Record<string, string>;

beforeEach(async () => {
  database = await testDatabase();
  folder = await mkdtemp(join(tmpdir(), 'hatchery-boot-'));
  // As root, a state folder that the Postgres user cannot enter would be put elsewhere.
  await chmod(folder, 0o711);
  env = {
    DATABASE_URL: database.url,
    REDIS_URL: redisUrl(),
    REDIS_PREFIX: redisPrefix(),
    HATCHERY_SECRET_KEY: Buffer.alloc(32, 5).toString('base64'),
    HATCHERY_STATE_DIR: join(folder, 'state'),
    HATCHERY_CONFIG_DIR: folder,
    HATCHERY_DEPLOYMENT: 'lab',
  };
});
afterEach(async () => {
  await database.drop();
  await rm(folder, { recursive: true, force: true });
});

async function writeCluster(certificates: string): Promise<void> {
  await mkdir(join(folder, 'clusters'), { recursive: true });
  await writeFile(join(folder, 'ca.pem'), certificates);
  await writeFile(
    join(folder, 'clusters', 'main.yaml'),
    `{ name: main, kind: proxmox, endpoints: ["https://127.0.0.1:1"], trust: { caFile: ../ca.pem },
       token: { id: "a@pve!b", secret: { file: ../ca.pem } }, pool: p, vmids: { from: 100, to: 200 } }`,
  );
}

const boot = async () => prepare(readSettings(env), env, quiet);

describe('before the service starts', () => {
  it('finds itself again in its database, and refuses another deployment in it', async () => {
    const { context } = await boot();
    expect((await boot()).context.deployment).toEqual({ id: context.deployment.id, name: 'lab' });
    env['HATCHERY_DEPLOYMENT'] = 'other';
    await expect(boot()).rejects.toMatchObject({
      code: 'settings-invalid',
      message: expect.stringContaining('belongs to deployment "lab"'),
    });
  });

  it('asks for a deployment name as soon as a cluster is configured', async () => {
    await writeCluster(pem('AAAA'));
    env['HATCHERY_DEPLOYMENT'] = '';
    await expect(boot()).rejects.toMatchObject({
      code: 'settings-invalid',
      message: expect.stringContaining('HATCHERY_DEPLOYMENT is not set'),
    });
  });

  it('refuses a Redis that throws keys away, and says what to set', async () => {
    const redis = await ownRedis();
    try {
      env['REDIS_URL'] = redis.url;
      await boot();
      const client = new Redis(redis.url);
      await client.config('SET', 'maxmemory-policy', 'volatile-lru');
      client.disconnect();
      await expect(boot()).rejects.toMatchObject({
        code: 'settings-invalid',
        message: expect.stringContaining('maxmemory-policy volatile-lru') as string,
        hint: expect.stringContaining('config set maxmemory-policy noeviction') as string,
      });
    } finally {
      await redis.remove();
    }
  });

  it('refuses another cluster under a known name, and follows a CA that is renewed with the old one beside it', async () => {
    await writeCluster(pem('AAAA'));
    await boot();
    await writeCluster(pem('BBBB'));
    await expect(boot()).rejects.toMatchObject({
      code: 'settings-invalid',
      message: expect.stringContaining('cluster main'),
    });
    await writeCluster(pem('AAAA') + pem('BBBB'));
    await boot();
    await writeCluster(pem('BBBB'));
    await boot();
    await writeCluster(pem('AAAA'));
    await expect(boot()).rejects.toMatchObject({ code: 'settings-invalid' });
  });

  it('keeps no token in the table of clusters', async () => {
    await writeCluster(pem('AAAA'));
    await boot();
    const client = new pg.Client(database.url);
    await client.connect();
    const { rows } = await client.query('select definition from clusters');
    await client.end();
    expect(rows).toMatchObject([{ definition: { name: 'main', token: { id: 'a@pve!b' } } }]);
    expect(JSON.stringify(rows)).not.toContain('secret');
  });
});

describe('the first start', () => {
  it('makes an admin whose password only the owner of the state folder can read, once', async () => {
    const { context } = await boot();
    const start = async (): Promise<number> => {
      const app = await createApp(context, EngineModule.create());
      await app.init();
      const users = (await app.get(Accounts).listUsers()).length;
      await app.close();
      return users;
    };
    expect(await start()).toBe(1);
    const file = join(folder, 'state', 'admin-password');
    const password = await readFile(file, 'utf8');
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(password.trim().length).toBeGreaterThanOrEqual(24);
    expect(await start()).toBe(1);
    expect(await readFile(file, 'utf8')).toBe(password);
  });
});

describe('a worker', () => {
  it('serves health and metrics where it is told to, and nothing else', async () => {
    env['HATCHERY_ROLE'] = 'worker';
    const { context } = await boot();
    const app = await createApp(context, EngineModule.create());
    await app.listen(0, '127.0.0.1');
    const url = await app.getUrl();
    const statuses = await Promise.all(
      ['/health/ready', '/metrics', '/docs', '/queues', '/api/v1/auth/me'].map(
        async (path) => (await fetch(url + path)).status,
      ),
    );
    await app.close();
    expect(statuses).toEqual([200, 200, 404, 404, 404]);
  });
});
