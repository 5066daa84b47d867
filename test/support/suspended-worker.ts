import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import { assemble, type Assembly, type AssembleOptions } from '../../src/app/engine/assemble.js';
import { connectRedis } from '../../src/drivers/redis/connect-redis.js';
import { RedisLocks } from '../../src/drivers/redis/redis-locks.js';
import { systemClock } from '../../src/drivers/system-clock.js';
import { EngineWorker } from '../../src/engine/worker.js';
import type { KillPoint } from '../../src/ports/checkpoints.js';
import type { RunStore } from '../../src/ports/run-store.js';

/** Longer than a busy test process ever stalls: its lease ends when the test says so, and never before. */
const TIMES = { leaseMs: 30_000, heartbeatMs: 200 };

/**
 * A worker with connections of its own, as another process has them, that can be suspended as a process is by SIGSTOP or a sleeping host:
 * no heartbeat, no renewed lock, not a word to Postgres, while what it has sent goes on. It sleeps for longer than its lease, in no time:
 * its clock goes forward by as much, and lease and locks end outside. Resumed, it believes that it still holds its steps.
 */
export class SuspendedWorker {
  readonly #holder = `suspended ${randomUUID()}`;
  readonly #stops = new Map<string, () => void>();
  readonly #inHand: Promise<unknown>[] = [];
  readonly #failures: unknown[] = [];
  readonly #resumed: Promise<void>;
  #wake: () => void = () => undefined;
  #isSuspended = false;
  #sleptMs = 0;
  #heartbeat: Promise<unknown> = Promise.resolve();
  #assembly!: Assembly;
  #locks!: RedisLocks;
  #locksRedis!: Redis;
  #engine!: EngineWorker;

  private constructor(private readonly options: AssembleOptions) {
    this.#resumed = new Promise((resolve) => (this.#wake = resolve));
  }

  static async start(options: AssembleOptions): Promise<SuspendedWorker> {
    const worker = new SuspendedWorker(options);
    const times = { ...options.times, ...TIMES };
    const assembly = await assemble({
      ...options,
      times,
      checkpoints: { reach: (point, { runId, step }) => worker.#pass(point, runId, step) },
    });
    // Never a Cluster: the tests' Redis is one server.
    const redis = connectRedis(options.redisUrl, () => {}) as Redis;
    const locks = new RedisLocks(redis, {
      prefix: options.redisPrefix,
      holder: worker.#holder,
      lockMs: times.leaseMs,
    });
    worker.#assembly = assembly;
    worker.#locks = locks;
    worker.#locksRedis = redis;
    const clock = { ...systemClock, monotonicMs: () => systemClock.monotonicMs() + worker.#sleptMs };
    worker.#engine = new EngineWorker(
      { ...assembly.parts, clock, locks, store: worker.#behindSleep(assembly.parts.store) },
      { isOneByOne: true },
    );
    await worker.#engine.start();
    return worker;
  }

  /** As Postgres knows it. */
  get id(): string {
    return this.#engine.lease.workerId;
  }

  take(stepId: string): void {
    this.#inHand.push(this.#engine.handle(stepId).catch((error: unknown) => this.#failures.push(error)));
  }

  /** From now on the step goes no further than this point, until `resume`. Resolves when it stands there. */
  stopsAt(point: KillPoint, runId: string, step: string): Promise<void> {
    return new Promise((resolve) => this.#stops.set(`${point} ${runId} ${step}`, resolve));
  }

  /** Resolves when its lease and its locks are over for everybody else. */
  async suspend(): Promise<void> {
    this.#isSuspended = true;
    await this.#heartbeat;
    const held = (await this.#locks.held()).filter(({ holder }) => holder === this.#holder);
    const keys = held.map(({ name }) => `mutex:${this.options.redisPrefix}:lock:${name}`);
    if (keys.length > 0) await this.#locksRedis.del(keys);
    this.#locksRedis.disconnect();
    this.#sleptMs += TIMES.leaseMs;
    await this.#assembly.database.query('update workers set lease_until = clock_timestamp() where id = $1', [
      this.id,
    ]);
  }

  /** Goes on as if nothing had happened and does whatever it still wants to do. */
  async resume(): Promise<void> {
    this.#stops.clear();
    this.#isSuspended = false;
    this.#wake();
    await Promise.all(this.#inHand);
  }

  async stop(): Promise<void> {
    await this.resume();
    await this.#engine.stop();
    this.#locksRedis.disconnect();
    await this.#assembly.close();
    if (this.#failures.length > 0) throw this.#failures[0];
  }

  async #pass(point: KillPoint, runId = '', step = ''): Promise<void> {
    const arrived = this.#stops.get(`${point} ${runId} ${step}`);
    if (arrived === undefined) return;
    arrived();
    await this.#resumed;
  }

  #behindSleep(store: RunStore): RunStore {
    return new Proxy(store, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name);
        if (typeof member !== 'function') return member;
        return async (...values: unknown[]): Promise<unknown> => {
          if (this.#isSuspended) await this.#resumed;
          const answer: unknown = Reflect.apply(member, target, values);
          if (name === 'heartbeat') this.#heartbeat = Promise.resolve(answer).catch(() => undefined);
          return answer;
        };
      },
    });
  }
}
