import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { claimInstance, resolveStateFolder, writeCliAccess } from '../drivers/embedded/state-folder.js';
import { chooseAccess, findAccess, savedLoginFile, serviceUrl, type AccessSource } from './access.js';
import type { CliWorld } from './world.js';

const OPTIONS = { from: 'options' } as const;
const ENVIRONMENT: AccessSource = { from: 'environment', url: 'http://env:1', token: 'env' };
const LOGIN: AccessSource = { from: 'login', url: 'https://login', token: 'login' };

describe('the choice of a service', () => {
  it('is the first that names an address, with its token', () => {
    expect(chooseAccess([OPTIONS, ENVIRONMENT, LOGIN])).toEqual({
      url: 'http://env:1',
      token: 'env',
      from: 'environment',
    });
    expect(chooseAccess([OPTIONS])).toBeUndefined();
  });

  it('never sends a token to an address that it was not given for', () => {
    const elsewhere = { ...OPTIONS, url: 'http://elsewhere' };
    expect(chooseAccess([elsewhere, ENVIRONMENT, LOGIN])).toEqual({
      url: 'http://elsewhere',
      token: undefined,
      from: 'options',
    });
    expect(chooseAccess([{ ...elsewhere, url: 'https://login/' }, ENVIRONMENT, LOGIN])?.token).toBe('login');
    expect(chooseAccess([{ ...OPTIONS, url: 'http://login' }, LOGIN])?.token).toBeUndefined();
  });

  it('takes a token without an address for any', () => {
    expect(chooseAccess([{ ...OPTIONS, token: 'mine' }, LOGIN])).toMatchObject({
      url: 'https://login',
      token: 'mine',
    });
  });

  it.each(['foo', 'ftp://host', 'http://me:secret@host', 'http://host?x=1', ''])(
    'refuses the address "%s"',
    (url) => {
      expect(() => serviceUrl(url)).toThrowError(expect.objectContaining({ code: 'settings-invalid' }));
    },
  );
});

describe('the search for a service', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'hatchery-cli-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const world = (environment: Record<string, string> = {}) =>
    ({ environment, home: join(folder, 'home'), root: join(folder, 'clone') }) as CliWorld;
  const saveLogin = async (content: string) => {
    const file = savedLoginFile(join(folder, 'home'));
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, content);
  };

  it('asks the options, the environment, the newest running demo, then the last login', async () => {
    await saveLogin('{"url":"http://login","token":"l"}');
    expect(await findAccess({}, world())).toEqual({ url: 'http://login', token: 'l', from: 'login' });

    const state = await resolveStateFolder(join(folder, 'clone', '.hatchery'));
    const demo = await claimInstance(state);
    await writeCliAccess(demo, { url: 'http://127.0.0.1:3', token: 'd' });
    expect(await findAccess({}, world())).toMatchObject({
      url: 'http://127.0.0.1:3',
      token: 'd',
      from: 'demo',
    });
    const environment = { HATCHERY_URL: 'http://env', HATCHERY_TOKEN: 'e' };
    expect(await findAccess({}, world(environment))).toMatchObject({ url: 'http://env', token: 'e' });
    expect(await findAccess({ url: 'http://opt', token: 'o' }, world(environment))).toMatchObject({
      token: 'o',
    });

    await demo.release();
    expect(await findAccess({}, world())).toMatchObject({ from: 'login' });
  });

  it('reads a token from the file that HATCHERY_TOKEN_FILE names', async () => {
    const file = join(folder, 'token');
    await writeFile(file, 'from-file\n');
    const environment = { HATCHERY_URL: 'http://env', HATCHERY_TOKEN_FILE: file };
    expect((await findAccess({}, world(environment))).token).toBe('from-file');
    await expect(findAccess({}, world({ HATCHERY_TOKEN_FILE: `${file}.gone` }))).rejects.toMatchObject({
      code: 'settings-invalid',
    });
  });

  it('says what to do when nobody knows a service, and makes no folder while looking', async () => {
    await expect(findAccess({}, world())).rejects.toMatchObject({
      code: 'settings-invalid',
      hint: expect.stringContaining('hatchery login'),
    });
    await expect(rm(join(folder, 'clone'))).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('refuses a login file that somebody else wrote', async () => {
    await saveLogin('{"url":1}');
    await expect(findAccess({}, world())).rejects.toMatchObject({ code: 'settings-invalid' });
  });
});
