import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { HatcheryError } from '../../core/errors.js';
import { KNOWN_SETTINGS, maskedSettings, readSettings } from './settings.js';

const key = Buffer.alloc(32, 7).toString('base64');

function refused(env: Record<string, string>): HatcheryError {
  try {
    readSettings(env);
  } catch (error) {
    if (error instanceof HatcheryError) return error;
    throw error;
  }
  throw new Error('the settings were accepted');
}

describe('readSettings', () => {
  it('needs no variable at all', () => {
    const settings = readSettings({});
    expect(settings.engine.role).toBe('all');
    expect(settings.http).toEqual({ host: '127.0.0.1', port: undefined, publicUrl: undefined });
    expect(settings.redis.prefix).toBe('{hatchery}');
    expect(settings.engine.remoteTimeScale).toBe(1);
  });

  it('says what is wrong with a REDIS_URL without repeating it, and asks for a prefix that keeps keys together', () => {
    const error = refused({ REDIS_URL: 'redis+sentinel://:topsecret@h1,h2', REDIS_PREFIX: 'hatchery' });
    expect(error.message).toContain('REDIS_URL: write the name that the sentinels give the master');
    expect(error.message).toContain('REDIS_PREFIX: write a name in braces, e.g. {hatchery}');
    expect(error.message).not.toContain('topsecret');
    const url = 'redis+cluster://:topsecret@h1,h2';
    expect(readSettings({ REDIS_URL: url }).redis.url?.reveal()).toBe(url);
  });

  it('counts an empty variable as not set', () => {
    expect(readSettings({ HATCHERY_PORT: '', DATABASE_URL: '' }).http.port).toBeUndefined();
  });

  it('names every wrong variable and what to write instead, in one error', () => {
    const error = refused({ HATCHERY_PORT: '99999', HATCHERY_ROLE: 'boss', DATABASE_URL: 'mysql://x' });
    expect(error.code).toBe('settings-invalid');
    expect(error.problems.map((problem) => problem.column)).toEqual([
      'DATABASE_URL',
      'HATCHERY_PORT',
      'HATCHERY_ROLE',
    ]);
    expect(error.message).toContain('HATCHERY_ROLE: write api, worker or all');
  });

  it('refuses an unknown name and gives the nearest known one', () => {
    expect(refused({ HATCHERY_PROT: '3000' }).message).toContain(
      'HATCHERY_PROT is not a setting: write HATCHERY_PORT',
    );
    expect(refused({ HATCHERY_WHATEVER_ELSE_THIS_IS: '1' }).message).toContain('remove it');
  });

  it('lets the variables of the command line stand', () => {
    expect(() => readSettings({ HATCHERY_URL: 'http://127.0.0.1:3000', HATCHERY_TOKEN: 'x' })).not.toThrow();
  });

  it('reads a secret from the file that X_FILE names, and refuses both forms at once', () => {
    const file = join(mkdtempSync(join(tmpdir(), 'settings-')), 'key');
    writeFileSync(file, `${key}\n`);
    expect(readSettings({ HATCHERY_SECRET_KEY_FILE: file }).engine.secretKey?.reveal()).toBe(key);
    expect(refused({ HATCHERY_SECRET_KEY_FILE: file, HATCHERY_SECRET_KEY: key }).message).toContain(
      'write one of them',
    );
    expect(refused({ HATCHERY_SECRET_KEY_FILE: `${file}.gone` }).message).toContain('ENOENT');
  });

  it('asks for the key when the database is an outside one', () => {
    const outside = { DATABASE_URL: 'postgres://h/db' };
    expect(refused(outside).message).toContain('HATCHERY_SECRET_KEY');
    expect(() => readSettings({ ...outside, HATCHERY_SECRET_KEY: key })).not.toThrow();
  });

  it('refuses a worker without stores', () => {
    expect(refused({ HATCHERY_ROLE: 'worker' }).message).toContain('write DATABASE_URL and REDIS_URL too');
  });

  it('prints no secret', () => {
    const settings = readSettings({ DATABASE_URL: 'postgres://u:hunter2@h/db', HATCHERY_SECRET_KEY: key });
    const printed = JSON.stringify(maskedSettings(settings));
    expect(printed).not.toContain('hunter2');
    expect(printed).not.toContain(key);
    expect(printed).toContain('***');
  });

  it('knows the _FILE form of every secret', () => {
    expect(KNOWN_SETTINGS).toContain('DATABASE_URL_FILE');
    expect(KNOWN_SETTINGS).toContain('HATCHERY_ADMIN_PASSWORD_FILE');
  });
});
