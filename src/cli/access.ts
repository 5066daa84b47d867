import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { HatcheryError } from '../core/errors.js';
import { findRunningDemo, resolveStateFolder } from '../drivers/embedded/state-folder.js';
import type { CliWorld } from './world.js';

/** One place that may know where the API is and who we are there. */
export interface AccessSource {
  readonly from: 'options' | 'environment' | 'demo' | 'login';
  readonly url?: string | undefined;
  readonly token?: string | undefined;
}

export interface Access {
  readonly url: string;
  readonly token: string | undefined;
  readonly from: AccessSource['from'];
}

/** What `--url` and `--token` say. */
export interface GivenAccess {
  readonly url?: string | undefined;
  readonly token?: string | undefined;
}

/** The file that `hatchery login` writes. */
export const savedLoginFile = (home: string): string => join(home, '.config', 'hatchery', 'cli.json');

/** Where this command finds its API. Error: `settings-invalid` when nobody says. */
export async function findAccess(given: GivenAccess, world: CliWorld): Promise<Access> {
  const { environment, home } = world;
  const sources: AccessSource[] = [
    { from: 'options', ...given },
    {
      from: 'environment',
      url: await setting(environment, 'HATCHERY_URL'),
      token: await setting(environment, 'HATCHERY_TOKEN'),
    },
  ];
  if (chooseAccess(sources)?.token === undefined) {
    sources.push({ from: 'demo', ...(await runningDemo(world)) });
    sources.push({ from: 'login', ...(await savedLogin(home)) });
  }
  const access = chooseAccess(sources);
  if (access) return access;
  throw new HatcheryError('settings-invalid', 'Unable to find the service: no address is known', {
    hint: 'Start a demo with npm run demo, sign in with hatchery login --url http://HOST:PORT, or set HATCHERY_URL and HATCHERY_TOKEN.',
  });
}

/** The first address wins; the token is the first that was not given for another address. */
export function chooseAccess(sources: readonly AccessSource[]): Access | undefined {
  const place = sources.find((source) => source.url !== undefined);
  if (place?.url === undefined) return undefined;
  const url = serviceUrl(place.url);
  const identity = sources.find(
    (source) => source.token !== undefined && (source.url === undefined || serviceUrl(source.url) === url),
  );
  return { url, token: identity?.token, from: place.from };
}

/** The address in one form, without a slash at its end. Error: `settings-invalid`. */
export function serviceUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== '' || url.search !== '')
    throw new HatcheryError('settings-invalid', `Unable to use "${text}" as the address of the service`, {
      hint: 'Write http://HOST:PORT or https://HOST.',
    });
  return `${url.origin}${url.pathname}`.replace(/\/+$/, '');
}

/** A setting, or the content of the file that `<name>_FILE` names. */
async function setting(environment: CliWorld['environment'], name: string): Promise<string | undefined> {
  const value = environment[name];
  if (value !== undefined && value !== '') return value;
  const file = environment[`${name}_FILE`];
  if (file === undefined || file === '') return undefined;
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (cause) {
    throw new HatcheryError('settings-invalid', `Unable to read ${name}_FILE: ${(cause as Error).message}`, {
      cause,
    });
  }
}

async function runningDemo({ environment, root }: CliWorld): Promise<AccessSource | undefined> {
  const wanted = environment['HATCHERY_STATE_DIR'] ?? join(root, '.hatchery');
  // Looking must not make the folder.
  if (!(await stat(wanted).catch(() => undefined))?.isDirectory()) return undefined;
  try {
    const demo = await findRunningDemo(await resolveStateFolder(wanted));
    return demo && { from: 'demo', url: demo.url, token: demo.token };
  } catch (error) {
    // A demo of another user is none of ours.
    if ((error as NodeJS.ErrnoException).code === 'EACCES') return undefined;
    throw error;
  }
}

/** What the last `hatchery login` left. Error: `settings-invalid` for a file that is not of ours. */
export async function savedLogin(home: string): Promise<{ url: string; token: string } | undefined> {
  const file = savedLoginFile(home);
  let content: string;
  try {
    content = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  const saved = parseSaved(content);
  if (saved) return saved;
  throw new HatcheryError(
    'settings-invalid',
    `Unable to read ${file}: it is not what hatchery login writes`,
    {
      hint: 'Remove the file and sign in again with hatchery login.',
    },
  );
}

function parseSaved(content: string): { url: string; token: string } | undefined {
  try {
    const { url, token } = JSON.parse(content) as { url?: unknown; token?: unknown };
    return typeof url === 'string' && typeof token === 'string' ? { url, token } : undefined;
  } catch {
    return undefined;
  }
}
