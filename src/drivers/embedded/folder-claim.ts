import { createHash, randomBytes } from 'node:crypto';
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Claims a folder for this process by `<folder>/claim` (pid and start of the process). Gives the release,
 * or `undefined` when a live process holds it. A dead process's claim is taken over: whoever makes the file that is
 * named after the dead claim does it, so that two who find it at once do not both succeed.
 */
export async function claimFolder(folder: string): Promise<(() => Promise<void>) | undefined> {
  const path = join(folder, CLAIM_FILE);
  const own = JSON.stringify({
    pid: process.pid,
    started: startOf(process.pid),
    nonce: randomBytes(6).toString('hex'),
  });
  if (!(await createExclusive(path, own))) {
    const stale = await readClaim(folder);
    if (stale === undefined || isAlive(stale)) return undefined;
    const takeover = `${path}.${createHash('sha256').update(stale).digest('hex').slice(0, 12)}`;
    if (!(await createExclusive(takeover, own))) return undefined;
    const unchanged = (await readClaim(folder)) === stale;
    if (unchanged) await rename(takeover, path);
    else await rm(takeover, { force: true });
    if (!unchanged) return undefined;
  }
  return async () => {
    if ((await readClaim(folder)) === own) await rm(path, { force: true });
  };
}

/** Whether a live process holds the folder. */
export async function isClaimed(folder: string): Promise<boolean> {
  const claim = await readClaim(folder);
  return claim !== undefined && isAlive(claim);
}

/** Name of the claim; names of drafts begin with it. */
export const CLAIM_FILE = 'claim';

const readClaim = (folder: string) => readFile(join(folder, CLAIM_FILE), 'utf8').catch(() => undefined);

/** Makes the file with its whole content at once, or not at all. */
async function createExclusive(path: string, content: string): Promise<boolean> {
  const draft = `${path}.${randomBytes(6).toString('hex')}`;
  await writeFile(draft, content, { flag: 'wx', mode: 0o600 });
  try {
    await link(draft, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    await rm(draft, { force: true });
  }
}

function isAlive(claim: string): boolean {
  const [, pid, started] = /^\{"pid":(\d+),"started":"([^"]*)"/.exec(claim) ?? [];
  if (pid === undefined) return false;
  try {
    process.kill(Number(pid), 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  return startOf(Number(pid)) === started;
}

/** Start of a process in clock ticks since boot: tells a process from a later one with its number. Empty without /proc. */
function startOf(pid: number): string {
  try {
    const line = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return line.slice(line.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  } catch {
    return '';
  }
}
