import type { Clock } from '../../ports/clock.js';
import { waitFor } from '../wait-for.js';

/**
 * One read of something costly, shared by every caller of the process: at most one is under way.
 * A caller that needs newer data than the read under way waits for it to end, and all such callers share the next one.
 * The age of an answer counts from the moment its request began. Failures are shared by those who wait, and not kept.
 */
export class SharedRead<T> {
  readonly #clock: Clock;
  readonly #read: (signal: AbortSignal) => Promise<T>;
  #last: { readonly startedAt: number; readonly value: T } | undefined;
  #flight: { readonly startedAt: number; readonly promise: Promise<T> } | undefined;

  constructor(clock: Clock, read: (signal: AbortSignal) => Promise<T>) {
    this.#clock = clock;
    this.#read = read;
  }

  /** `signal` ends only this caller's waiting: the shared read goes on for the others. */
  async get(maxAgeMs: number, signal: AbortSignal): Promise<T> {
    const notBefore = this.#clock.monotonicMs() - maxAgeMs;
    for (;;) {
      signal.throwIfAborted();
      if (this.#last && this.#last.startedAt >= notBefore) return this.#last.value;
      const flight = this.#flight ?? this.#start();
      if (flight.startedAt >= notBefore) return waitFor(flight.promise, signal);
      await waitFor(Promise.allSettled([flight.promise]), signal);
    }
  }

  #start(): { readonly startedAt: number; readonly promise: Promise<T> } {
    const startedAt = this.#clock.monotonicMs();
    const promise = this.#read(new AbortController().signal)
      .then((value) => {
        this.#last = { startedAt, value };
        return value;
      })
      .finally(() => {
        this.#flight = undefined;
      });
    this.#flight = { startedAt, promise };
    // Everybody may have left before it fails.
    promise.catch(() => undefined);
    return this.#flight;
  }
}
