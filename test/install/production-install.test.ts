import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { KNOWN_SETTINGS } from '../../src/app/config/settings.js';
import { freePort } from '../../src/drivers/embedded/free-port.js';
import { spawnGuarded, type GuardedProcess } from '../../src/drivers/embedded/guarded-process.js';
import { redisUrl, testDatabase, type TestDatabase } from '../support/stores.js';

const ROOT = join(import.meta.dirname, '..', '..');

describe('an installation for production', () => {
  let folder: string;
  let database: TestDatabase;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'hatchery-install-'));
    copyRepository(folder);
    database = await testDatabase();
    // As in the Dockerfile.
    await promisify(execFile)('npm', ['ci', '--omit=dev', '--ignore-scripts', '--no-audit', '--no-fund'], {
      cwd: folder,
      env: { ...process.env, NODE_ENV: 'production' },
    });
  });

  afterAll(async () => {
    await database.drop();
    rmSync(folder, { recursive: true, force: true });
  });

  it.each(['api', 'worker'])('boots as %s on outside stores and is ready', async (role) => {
    const port = await freePort();
    const service = await spawnGuarded({
      command: process.execPath,
      args: [join(folder, 'dist', 'app', 'main.js')],
      cwd: folder,
      env: {
        PATH: process.env['PATH'],
        NODE_ENV: 'production',
        HATCHERY_ROLE: role,
        DATABASE_URL: database.url,
        REDIS_URL: redisUrl(),
        REDIS_PREFIX: `{t-${randomBytes(8).toString('hex')}}`,
        HATCHERY_PORT: String(port),
        HATCHERY_STATE_DIR: join(folder, 'state'),
        HATCHERY_SECRET_KEY: randomBytes(32).toString('base64'),
        HATCHERY_ADMIN_PASSWORD: 'a password of the test',
        HATCHERY_LOG_LEVEL: 'warn',
      },
      stopSignal: 'SIGTERM',
      graceSeconds: 30,
      stderr: 'pipe',
    });
    try {
      expect(await firstAnswer(`http://127.0.0.1:${port}/health/ready`, service)).toBe(200);
      await service.stop();
      expect(await service.ended).toEqual({ code: 0, signal: null });
    } finally {
      await service.stop();
    }
  });
});

describe('the container files', () => {
  const compose = parse(readFileSync(join(ROOT, 'docker-compose.yml'), 'utf8'), { merge: true }) as {
    services: Record<string, { environment?: Record<string, string>; secrets?: string[] }>;
    secrets: Record<string, unknown>;
  };

  it.each(['api', 'worker'])('give %s only settings that exist', (name) => {
    const names = Object.keys(compose.services[name]?.environment ?? {});
    expect(names).toContain('DATABASE_URL_FILE');
    expect(names.filter((setting) => !KNOWN_SETTINGS.includes(setting))).toEqual([]);
  });

  it('mount each secret that a setting names', () => {
    for (const { environment = {}, secrets = [] } of Object.values(compose.services))
      for (const path of Object.values(environment).filter((value) => value.startsWith('/run/secrets/'))) {
        expect(secrets).toContain(path.slice('/run/secrets/'.length));
        expect(compose.secrets).toHaveProperty([path.slice('/run/secrets/'.length)]);
      }
  });

  it('set only settings that exist in the image', () => {
    const dockerfile = readFileSync(join(ROOT, 'Dockerfile'), 'utf8').replace(/\\\n/g, ' ');
    const names = [...dockerfile.matchAll(/^ENV (.*)$/gm)].flatMap(([, line]) =>
      [...line!.matchAll(/([A-Z_]+)=/g)].map((match) => match[1]!),
    );
    expect(names.filter((name) => name !== 'NODE_ENV' && !KNOWN_SETTINGS.includes(name))).toEqual([]);
    expect(names.filter((name) => /KEY|PASSWORD|TOKEN|URL/.test(name))).toEqual([]);
  });
});

/** What a clone holds, and the build; nothing that was made here besides. */
function copyRepository(to: string): void {
  const made = new Set(['.git', '.hatchery', '.cache', 'coverage', 'node_modules', 'secrets', 'site']);
  for (const name of readdirSync(ROOT))
    if (!made.has(name)) cpSync(join(ROOT, name), join(to, name), { recursive: true });
}

/** The status of the first answer. Error: what the service said when it ended instead. */
async function firstAnswer(url: string, service: GuardedProcess): Promise<number> {
  let said = '';
  service.process.stderr?.on('data', (text: Buffer) => (said += text.toString()));
  let hasEnded = false;
  void service.ended.then(() => (hasEnded = true));
  while (!hasEnded) {
    const status = await fetch(url).then(
      (answer) => answer.status,
      () => undefined,
    );
    if (status !== undefined && status !== 503) return status;
    await sleep(50);
  }
  throw new Error(`the service ended: ${said}`);
}
