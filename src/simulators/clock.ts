import { SimProcess } from './process.js';

/** A wait that ended because the simulator stopped or its task was interrupted. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
}

/**
 * Simulated time: every duration given to it is in simulated milliseconds and takes `timeScale` times as long on the wall (0.05 = 20 times faster).
 * Time stamps on the wire (task start, UPID) are wall time: clients compare them with their own clock.
 */
export class SimClock {
  readonly #startedAt = process.hrtime.bigint();
  readonly #stopped = new AbortController();
  readonly #waits = new Set<() => void>();
  readonly #repeats: NodeJS.Timeout[] = [];

  constructor(
    readonly timeScale: number,
    /** Simulated milliseconds that an earlier life of this world already took. */
    readonly startedAtMs = 0,
  ) {
    if (!(timeScale > 0 && timeScale <= 1000)) throw new RangeError('write a time scale above 0, e.g. 0.05');
  }

  /** Simulated milliseconds since the world began. */
  elapsedMs(): number {
    const wallMs = Number(process.hrtime.bigint() - this.#startedAt) / 1e6;
    return this.startedAtMs + wallMs / this.timeScale;
  }

  unixSeconds(): number {
    return Math.floor(Date.now() / 1000);
  }

  /** Aborts when the simulator stops. */
  get signal(): AbortSignal {
    return this.#stopped.signal;
  }

  /** Waits `simulatedMs`; throws `Interrupted` when `signal` aborts or the clock stops; never ends when the caller's process is killed. */
  sleep(simulatedMs: number, signal?: AbortSignal): Promise<void> {
    const owner = SimProcess.current();
    if (owner?.isKilled) return new Promise(() => undefined);
    return new Promise((resolve, reject) => {
      const interrupt = (): void => {
        done();
        reject(new Interrupted('the wait was interrupted'));
      };
      const done = (): void => {
        clearTimeout(timer);
        forgetKill?.();
        this.#waits.delete(interrupt);
        signal?.removeEventListener('abort', interrupt);
      };
      const timer = setTimeout(
        () => {
          done();
          resolve();
        },
        Math.max(0, simulatedMs * this.timeScale),
      );
      const forgetKill = owner?.onKill(done);
      this.#waits.add(interrupt);
      signal?.addEventListener('abort', interrupt, { once: true });
      if (signal?.aborted || this.#stopped.signal.aborted) interrupt();
    });
  }

  /** Calls `act` once after `simulatedMs`, whoever asked for it may be dead by then; not any more when the clock has stopped. */
  after(simulatedMs: number, act: () => void): void {
    const timer = setTimeout(() => {
      this.#waits.delete(cancel);
      act();
    }, simulatedMs * this.timeScale);
    const cancel = (): void => clearTimeout(timer);
    this.#waits.add(cancel);
  }

  /** Calls `act` every `simulatedMs` until the clock stops. */
  every(simulatedMs: number, act: () => void): void {
    this.#repeats.push(setInterval(act, Math.max(1, simulatedMs * this.timeScale)));
  }

  /** Ends every wait. */
  stop(): void {
    this.#stopped.abort();
    for (const timer of this.#repeats) clearInterval(timer);
    for (const interrupt of this.#waits) interrupt();
  }
}
