import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { claimInstance, findRunningDemo, writeCliAccess } from './state-folder.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hatchery-state-'));
});
afterEach(() => rm(folder, { recursive: true }));

describe('the instances of a state folder', () => {
  it('get the first free number', async () => {
    const first = await claimInstance(folder);
    const second = await claimInstance(folder);
    await first.release();
    const third = await claimInstance(folder);
    expect([first.number, second.number, third.number]).toEqual([1, 2, 1]);
  });

  it('tell the command line about the newest that runs, in a file for its owner only', async () => {
    const first = await claimInstance(folder);
    await writeCliAccess(first, { url: 'http://127.0.0.1:1', token: 'one' });
    expect(await findRunningDemo(folder)).toEqual({ url: 'http://127.0.0.1:1', token: 'one' });
    expect((await stat(join(first.folder, 'cli.json'))).mode & 0o777).toBe(0o600);
    await first.release();
    expect(await findRunningDemo(folder)).toBeUndefined();
  });
});
