import { setMaxListeners } from 'node:events';
import type { Cluster, Redis } from 'ioredis';
import { Mutex } from 'redis-semaphore';
import { HatcheryError } from '../../core/errors.js';
import { LockLost, type HeldLock, type Locks } from '../../ports/locks.js';

const RETRY_MS = 50;
/** Nobody waits longer for a Redis that is away than this, unless it is for the lock itself. */
const ANSWER_MS = 1_000;

/** Of work without a lock. */
const NEVER_LOST = new AbortController().signal;
setMaxListeners(0, NEVER_LOST);

/**
 * Locks in Redis (redis-semaphore), one key per name, renewed while the work runs.
 * Who holds what and why stands in one hash beside them, for people; it is a hint like the locks themselves.
 */
export class RedisLocks implements Locks {
  constructor(
    private readonly redis: Redis | Cluster,
    private readonly options: { prefix: string; holder: string; lockMs: number },
  ) {}

  async with<T>(
    names: readonly string[],
    options: { why: string; waitMs: number; signal: AbortSignal },
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    if (names.length === 0) return work(NEVER_LOST);
    const lost = new AbortController();
    const taken: { name: string; mutex: Mutex }[] = [];
    try {
      for (const name of [...new Set(names)].sort()) {
        options.signal.throwIfAborted();
        taken.push({ name, mutex: await this.take(name, options, lost) });
      }
      this.note(
        taken.map((one) => one.name),
        options.why,
      );
      return await work(lost.signal);
    } catch (error) {
      throw lost.signal.aborted ? lost.signal.reason : error;
    } finally {
      await this.letGo(taken);
    }
  }

  async tryHold(
    name: string,
    why: string,
  ): Promise<{ readonly lost: AbortSignal; release(): Promise<void> } | undefined> {
    const lost = new AbortController();
    const mutex = this.mutex(name, lost, 0);
    const taking = mutex.tryAcquire();
    const isTaken = await unlessEnded(taking, AbortSignal.timeout(ANSWER_MS)).catch((error: unknown) => {
      giveBackLater(taking, mutex);
      if (error instanceof DOMException) return false;
      throw error;
    });
    if (!isTaken) return undefined;
    this.note([name], why);
    return { lost: lost.signal, release: () => this.letGo([{ name, mutex }]) };
  }

  async held(): Promise<readonly HeldLock[]> {
    const notes = Object.values(await this.redis.hgetall(this.notesKey)).map(
      (note) => JSON.parse(note) as HeldLock,
    );
    if (notes.length === 0) return [];
    const alive = await this.redis.mget(notes.map((note) => `mutex:${this.key(note.name)}`));
    return notes.filter((_, index) => alive[index] !== null);
  }

  private async take(
    name: string,
    options: { why: string; waitMs: number; signal: AbortSignal },
    lost: AbortController,
  ): Promise<Mutex> {
    const mutex = this.mutex(name, lost, options.waitMs);
    const taking = mutex.acquire(options.signal);
    try {
      await unlessEnded(taking, options.signal);
      return mutex;
    } catch (error) {
      giveBackLater(taking, mutex);
      options.signal.throwIfAborted();
      const holder = (await this.held()).find((held) => held.name === name);
      const who =
        holder === undefined ? 'nobody is known to hold it' : `${holder.holder} holds it for ${holder.why}`;
      throw new HatcheryError(
        'lock-timeout',
        `Unable to take the lock ${name} within ${options.waitMs / 1000} s: ${who}`,
        {
          retry: 'later',
          facts: { name, waitedMs: options.waitMs, ...(holder === undefined ? {} : { holder }) },
          cause: error,
        },
      );
    }
  }

  private mutex(name: string, lost: AbortController, waitMs: number): Mutex {
    return new RenewedMutex(this.redis, this.key(name), {
      lockTimeout: this.options.lockMs,
      refreshInterval: this.options.lockMs / 3,
      acquireTimeout: Math.max(1, waitMs),
      retryInterval: RETRY_MS,
      onLockLost: () => lost.abort(new LockLost(name)),
    });
  }

  private async letGo(taken: readonly { name: string; mutex: Mutex }[]): Promise<void> {
    if (taken.length === 0) return;
    const released = Promise.allSettled([
      ...taken.map((one) => one.mutex.release()),
      this.redis.hdel(this.notesKey, ...taken.map((one) => one.name)),
    ]);
    // A lock that cannot be given back ends by itself: its key expires.
    await unlessEnded(released, AbortSignal.timeout(ANSWER_MS)).catch(() => undefined);
  }

  /** Only people read it: whether it could be written is nothing to the work. */
  private note(names: readonly string[], why: string): void {
    const sinceMs = Date.now();
    const notes = names.map((name): HeldLock => ({ name, holder: this.options.holder, why, sinceMs }));
    this.redis
      .hset(this.notesKey, Object.fromEntries(notes.map((note) => [note.name, JSON.stringify(note)])))
      .catch(() => undefined);
  }

  private key(name: string): string {
    return `${this.options.prefix}:lock:${name}`;
  }

  private get notesKey(): string {
    return `${this.options.prefix}:locks`;
  }
}

/** What `asked` gives, unless `signal` ends before: a command to a Redis that is away has no answer until it is back. */
async function unlessEnded<T>(asked: Promise<T>, signal: AbortSignal): Promise<T> {
  let end: () => void = () => undefined;
  const ended = new Promise<never>((_, reject) => {
    end = () => reject(signal.reason as Error);
    signal.addEventListener('abort', end);
  });
  try {
    return await Promise.race([asked, ended]);
  } finally {
    signal.removeEventListener('abort', end);
  }
}

/** A lock that comes when nobody waits for it any more. */
function giveBackLater(taking: Promise<unknown>, mutex: Mutex): void {
  taking.then(() => mutex.release()).catch(() => undefined);
}

/**
 * A Redis that refuses (failover, full disk, too few replicas) proves nothing about a lock of ours until its key has expired. Without this
 * the library's timer rejects with nobody to hear it, and Node ends the process.
 */
class RenewedMutex extends Mutex {
  private renewedMs = performance.now();

  protected override async _acquire(signal?: AbortSignal): Promise<boolean> {
    const isAcquired = await super._acquire(signal);
    this.renewedMs = performance.now();
    return isAcquired;
  }

  protected override async _refresh(): Promise<boolean> {
    const sentMs = performance.now();
    try {
      const isRenewed = await super._refresh();
      if (isRenewed) this.renewedMs = sentMs;
      return isRenewed;
    } catch {
      return performance.now() - this.renewedMs < this._acquireOptions.lockTimeout;
    }
  }
}
