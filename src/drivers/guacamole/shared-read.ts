import type { Clock } from '../../ports/clock.js';
import { waitFor } from '../wait-for.js';

interface Entry<T> {
  readonly startedAtMs: number;
  readonly value: Promise<T>;
}

/**
 * One read for all who ask at about the same time: callers share a read that began at most `maxAgeMs` ago, under way or done.
 * A failed read is not kept.
 */
export class SharedRead<T> {
  readonly #entries = new Map<string, Entry<T>>();

  constructor(
    private readonly clock: Clock,
    private readonly maxAgeMs: number,
  ) {}

  /** `fresh` begins a new read in any case. The read itself goes on when one caller's signal aborts. */
  async get(
    key: string,
    read: () => Promise<T>,
    options: { fresh: boolean; signal: AbortSignal },
  ): Promise<T> {
    this.#dropOld();
    const known = options.fresh ? undefined : this.#entries.get(key);
    if (known !== undefined) return waitFor(known.value, options.signal);
    const entry = { startedAtMs: this.clock.monotonicMs(), value: read() };
    this.#entries.set(key, entry);
    entry.value.catch(() => {
      if (this.#entries.get(key) === entry) this.#entries.delete(key);
    });
    return waitFor(entry.value, options.signal);
  }

  /** Call it after a write: whoever asks from now on sees it. */
  forget(key: string): void {
    this.#entries.delete(key);
  }

  #dropOld(): void {
    const oldest = this.clock.monotonicMs() - this.maxAgeMs;
    for (const [key, entry] of this.#entries) if (entry.startedAtMs < oldest) this.#entries.delete(key);
  }
}
