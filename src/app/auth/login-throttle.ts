import { isIPv6 } from 'node:net';
import type { Cluster, Redis } from 'ioredis';
import { HatcheryError } from '../../core/errors.js';
import { inTime } from '../in-time.js';

const WINDOW_SECONDS = 900;
const PATIENCE_MS = 3_000;
/** Failures within the window: one person from one place, everybody from one place (a school behind one address), one account from everywhere. */
const LIMITS = { pair: 10, address: 100, account: 50 } as const;

/** Slows guessing of passwords; counts in Redis, so all API processes share it. A wrong login name counts like a wrong password. */
export class LoginThrottle {
  constructor(
    private readonly redis: Redis | Cluster,
    private readonly prefix: string,
  ) {}

  /** Counts one try before it is judged. Errors: `too-many-requests`; `service-unreachable` when nobody counts: then nobody may try. */
  async count(login: string, address: string): Promise<void> {
    const counts = await inTime(
      Promise.all(
        this.keys(login, address).map(async ({ key, limit }) => {
          const count = await this.redis.incr(key);
          // Also for one that was left without an end: it would lock an account for ever.
          if ((await this.redis.ttl(key)) < 0) await this.redis.expire(key, WINDOW_SECONDS);
          return { key, limit, count };
        }),
      ),
      PATIENCE_MS,
    );
    if (counts === undefined)
      throw new HatcheryError(
        'service-unreachable',
        'Unable to sign in: Redis, which counts the tries, does not answer',
        {
          afterMs: 10_000,
          hint: 'Try again in a moment. Tokens that you have still work.',
        },
      );
    const over = counts.find(({ count, limit }) => count > limit);
    if (over === undefined) return;
    const seconds = Math.max(1, await this.redis.ttl(over.key));
    throw new HatcheryError('too-many-requests', 'Unable to sign in: too many tries', {
      afterMs: seconds * 1000,
      hint: `Try again in ${Math.ceil(seconds / 60)} minutes.`,
    });
  }

  /** A right password takes its own try back. */
  async forgive(login: string, address: string): Promise<void> {
    const [pair, ...others] = this.keys(login, address);
    const forgiven = [
      ...(pair ? [this.redis.del(pair.key)] : []),
      ...others.map(({ key }) => this.redis.decr(key)),
    ];
    await inTime(Promise.all(forgiven), PATIENCE_MS);
  }

  private keys(login: string, address: string): { key: string; limit: number }[] {
    const account = Buffer.from(login.toLowerCase()).toString('base64url').slice(0, 120);
    const start = `${this.prefix}:login`;
    const place = networkOf(address);
    return [
      { key: `${start}:pair:${account}:${place}`, limit: LIMITS.pair },
      { key: `${start}:address:${place}`, limit: LIMITS.address },
      { key: `${start}:account:${account}`, limit: LIMITS.account },
    ];
  }
}

/** An IPv6 customer has 2^64 addresses: they count as one, by their first four groups. */
export function networkOf(address: string): string {
  if (!isIPv6(address) || address.includes('.')) return address;
  const [head = [], tail = []] = address
    .split('::')
    .map((part) => part.split(':').filter((group) => group !== ''));
  const zeros = Array.from({ length: Math.max(0, 8 - head.length - tail.length) }, () => '0');
  return [...head, ...zeros, ...tail]
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ''))
    .join(':');
}
