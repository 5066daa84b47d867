import { createHash } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, realpath, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { claimFolder, isClaimed } from './folder-claim.js';
import { canEnter, serverUser } from './server-user.js';

/** How a command line reaches a running demo; the file is readable by its owner only. */
export interface CliAccess {
  readonly url: string;
  readonly token: string;
}

/** One demo's folder; `release` gives its number back. */
export interface Instance {
  readonly number: number;
  readonly folder: string;
  release(): Promise<void>;
}

/**
 * Makes the state folder and gives its real path.
 * As root, when the Postgres user cannot enter `wanted` (a clone below a 0700 home), that is
 * `/var/lib/hatchery/<12 hex of sha256(realpath)>`: the same clone always finds the same folder.
 */
export async function resolveStateFolder(wanted: string): Promise<string> {
  const asked = await makeFolder(resolve(wanted));
  const user = serverUser();
  if (user.uid === undefined || canEnter(user, asked)) return asked;
  const name = createHash('sha256').update(asked).digest('hex').slice(0, 12);
  return await makeFolder(join('/var/lib/hatchery', name));
}

/** Claims the first instance folder that no live process holds: a second demo beside the first takes the next one. */
export async function claimInstance(stateFolder: string): Promise<Instance> {
  for (let number = 1; ; number += 1) {
    const folder = await makeFolder(instanceFolder(stateFolder, number));
    const release = await claimFolder(folder);
    if (release) return { number, folder, release };
  }
}

/** Writes `<instance>/cli.json`. */
export async function writeCliAccess(instance: Instance, access: CliAccess): Promise<void> {
  await rm(join(instance.folder, CLI_FILE), { force: true });
  await writeFile(join(instance.folder, CLI_FILE), `${JSON.stringify(access)}\n`, { mode: 0o600 });
}

/** The address and token of the newest demo that runs from this state folder. */
export async function findRunningDemo(stateFolder: string): Promise<CliAccess | undefined> {
  const found: { path: string; at: number }[] = [];
  for (const name of await readdir(join(stateFolder, INSTANCES)).catch(() => [])) {
    const folder = join(stateFolder, INSTANCES, name);
    const written = await stat(join(folder, CLI_FILE)).catch(() => undefined);
    if (written && (await isClaimed(folder)))
      found.push({ path: join(folder, CLI_FILE), at: written.mtimeMs });
  }
  const newest = found.sort((a, b) => b.at - a.at)[0];
  return newest && (JSON.parse(await readFile(newest.path, 'utf8')) as CliAccess);
}

const INSTANCES = 'instances';
const CLI_FILE = 'cli.json';

const instanceFolder = (stateFolder: string, number: number) => join(stateFolder, INSTANCES, String(number));

/** As root, others may pass through the folders we make (Postgres runs as another user) and list nothing; what is secret is 0600 by itself. */
async function makeFolder(path: string): Promise<string> {
  const first = await mkdir(path, { recursive: true, mode: 0o700 });
  if (first !== undefined && process.getuid?.() === 0)
    for (let made = path; made.length >= first.length; made = dirname(made)) await chmod(made, 0o711);
  return await realpath(path);
}
