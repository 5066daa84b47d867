import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { claimFolder, isClaimed } from './folder-claim.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hatchery-claim-'));
});
afterEach(() => rm(folder, { recursive: true }));

const claimOf = (claim: object) => writeFile(join(folder, 'claim'), JSON.stringify(claim));

describe('the claim on a folder', () => {
  it('is given to one of many who ask at once', async () => {
    const asked = await Promise.all(Array.from({ length: 10 }, () => claimFolder(folder)));
    expect(asked.filter((release) => release !== undefined)).toHaveLength(1);
    expect(await isClaimed(folder)).toBe(true);
  });

  it('can be taken again after its release, and leaves nothing else behind', async () => {
    const release = await claimFolder(folder);
    await release?.();
    expect(await isClaimed(folder)).toBe(false);
    expect(await claimFolder(folder)).toBeDefined();
    expect(await readdir(folder)).toEqual(['claim']);
  });

  it('of a process that is gone is taken over by one of many', async () => {
    await claimOf({ pid: 2 ** 22 - 1, started: '1', nonce: 'dead' });
    expect(await isClaimed(folder)).toBe(false);
    const asked = await Promise.all(Array.from({ length: 10 }, () => claimFolder(folder)));
    expect(asked.filter((release) => release !== undefined)).toHaveLength(1);
  });

  it('is not held by a later process with the same number', async () => {
    await claimOf({ pid: process.pid, started: 'earlier', nonce: 'dead' });
    expect(await isClaimed(folder)).toBe(false);
    expect(await claimFolder(folder)).toBeDefined();
  });
});
