import type { ClusterNode, RedisOptions, SentinelAddress } from 'ioredis';
import { HatcheryError } from '../../core/errors.js';

/** What a REDIS_URL names. `redis` = how each server of data is spoken to. */
export type RedisTarget =
  | { readonly kind: 'server'; readonly redis: RedisOptions }
  | {
      readonly kind: 'sentinel';
      readonly sentinels: readonly SentinelAddress[];
      readonly redis: RedisOptions;
    }
  | { readonly kind: 'cluster'; readonly nodes: readonly ClusterNode[]; readonly redis: RedisOptions };

const FORMS =
  'redis[s]://[user:password@]host[:6379][/db], redis+sentinel://[user:password@]h1[:26379],h2/name or redis+cluster://[user:password@]h1[:6379],h2';
const REDIS_PORT = 6379;
const SENTINEL_PORT = 26_379;

/**
 * Reads a REDIS_URL. Users and passwords are percent-encoded; IPv6 addresses stand in brackets. Sentinels that ask for a password of their own get it from
 * `?sentinelPassword=` (and `sentinelUsername`).
 * Error: `settings-invalid` that says what to write instead and never repeats the URL, which holds a password.
 */
export function readRedisUrl(url: string): RedisTarget {
  const match =
    /^(redis|rediss|redis\+sentinel|redis\+cluster):\/\/(?:([^@/?#]*)@)?([^@/?#]*)(?:\/([^@?#]*))?(?:\?([^#]*))?$/.exec(
      url,
    );
  if (!match)
    throw refusal(`write ${FORMS}; "/", "@", "?" and "#" of a password are written %2F, %40, %3F and %23`);
  const [, scheme, login, hosts = '', path = '', query = ''] = match;
  const redis = credentials(login);
  const entries = hosts.split(',');
  switch (scheme) {
    case 'redis+sentinel':
      if (!/^[\w.-]+$/.test(path))
        throw refusal(
          'write the name that the sentinels give the master behind the hosts, e.g. redis+sentinel://h1,h2/mymaster',
        );
      return {
        kind: 'sentinel',
        sentinels: entries.map((entry) => address(entry, SENTINEL_PORT)),
        redis: { ...redis, ...sentinelLogin(query), name: path },
      };
    case 'redis+cluster':
      if (path !== '' || query !== '')
        throw refusal(
          'write nothing behind the hosts of a cluster, which has one database: redis+cluster://h1,h2',
        );
      return { kind: 'cluster', nodes: entries.map((entry) => address(entry, REDIS_PORT)), redis };
    default: {
      if (entries.length > 1)
        throw refusal('write one host, or redis+sentinel://h1,h2/name or redis+cluster://h1,h2 for several');
      if (!/^\d{0,5}$/.test(path) || query !== '')
        throw refusal(
          'write nothing behind the host but the number of the database, e.g. redis://host:6379/0',
        );
      const tls = scheme === 'rediss' ? { tls: {} } : {};
      return {
        kind: 'server',
        redis: { ...redis, ...tls, ...address(entries[0]!, REDIS_PORT), db: Number(path) },
      };
    }
  }
}

/** What to write instead of a REDIS_URL that cannot be read; `undefined` = it can. */
export function redisUrlProblem(url: string): string | undefined {
  try {
    readRedisUrl(url);
    return undefined;
  } catch (error) {
    return error instanceof HatcheryError ? error.hint : String(error);
  }
}

function credentials(login: string | undefined): RedisOptions {
  if (login === undefined) return {};
  const [, username = '', password = ''] = /^([^:]*):(.*)$/s.exec(login) ?? [];
  if (password === '')
    throw refusal(
      'write user:password, or :password, before the "@" (a ":" inside a password may stand as it is)',
    );
  return { ...(username === '' ? {} : { username: decode(username) }), password: decode(password) };
}

function sentinelLogin(query: string): RedisOptions {
  const found: RedisOptions = {};
  for (const [name, value] of new URLSearchParams(query))
    if (name === 'sentinelPassword') found.sentinelPassword = value;
    else if (name === 'sentinelUsername') found.sentinelUsername = value;
    else throw refusal('write ?sentinelPassword=... and &sentinelUsername=... behind the name, nothing else');
  if (found.sentinelUsername !== undefined && found.sentinelPassword === undefined)
    throw refusal('write sentinelPassword too when sentinelUsername is given');
  return found;
}

function address(entry: string, usualPort: number): { host: string; port: number } {
  const [, six, name, digits] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/.exec(entry) ?? [];
  const host = six ?? name;
  const port = digits === undefined ? usualPort : Number(digits);
  if (host === undefined || port < 1 || port > 65_535)
    throw refusal(
      'write each host as name, name:port, 10.0.0.1:port or [2001:db8::1]:port, with commas and no spaces between',
    );
  return { host, port };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw refusal('write a "%" of a user or password as %25');
  }
}

const refusal = (write: string): HatcheryError =>
  new HatcheryError('settings-invalid', 'Unable to read REDIS_URL: it has none of its forms', {
    retry: 'after-fix',
    hint: write,
  });
