import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Clears what an earlier server left in a data folder that is ours alone now: a server that is still running is stopped
 * first (fast), and a postmaster.pid without its server is removed, because Postgres would take any process with that
 * number, e.g. after a reboot or in a new container, for a running server.
 */
export async function stopLeftover(data: string): Promise<void> {
  const path = join(data, 'postmaster.pid');
  const content = await readFile(path, 'utf8').catch(() => undefined);
  if (content === undefined) return;
  const pid = Number(content.split('\n')[0]);
  if (Number.isInteger(pid) && pid > 1 && (await servesFolder(pid, data))) {
    process.kill(pid, 'SIGINT');
    while (await servesFolder(pid, data)) await sleep(20);
  }
  await rm(path, { force: true });
}

async function servesFolder(pid: number, data: string): Promise<boolean> {
  const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  const words = command.split('\0');
  return words[0]?.endsWith('postgres') === true && words.includes(data);
}
