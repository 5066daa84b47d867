import type { Cluster, Redis } from 'ioredis';
import { HatcheryError } from '../../core/errors.js';
import { networkOf } from '../auth/login-throttle.js';
import { inTime } from '../in-time.js';

const WINDOW_SECONDS = 900;
const PATIENCE_MS = 1_000;
/** A class behind one address whose every answer got lost on the way stays below it. */
const FAILURES = 2_000;

/** Keeps refused calls from one place from wearing out the database; nobody guesses a token anyway, so without Redis nobody is held back. */
export class PhoneHomeThrottle {
  constructor(
    private readonly redis: Redis | Cluster,
    private readonly prefix: string,
  ) {}

  /** Error: `too-many-requests`. */
  async check(address: string): Promise<void> {
    const count = inTime(this.redis.get(this.key(address)), PATIENCE_MS).catch(() => undefined);
    if (Number((await count) ?? 0) < FAILURES) return;
    throw new HatcheryError('too-many-requests', 'Unable to take the call: too many refused ones', {
      afterMs: WINDOW_SECONDS * 1000,
    });
  }

  /** Counts a refused call. */
  async refused(address: string): Promise<void> {
    const key = this.key(address);
    const counted = Promise.all([this.redis.set(key, 0, 'EX', WINDOW_SECONDS, 'NX'), this.redis.incr(key)]);
    await inTime(counted, PATIENCE_MS).catch(() => undefined);
  }

  private key(address: string): string {
    return `${this.prefix}:phone-home:${networkOf(address)}`;
  }
}
