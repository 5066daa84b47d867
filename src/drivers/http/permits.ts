/** Counted permits per name, first come first served. */
export class Permits {
  readonly #limit: number;
  readonly #taken = new Map<string, number>();
  readonly #queues = new Map<string, (() => void)[]>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Runs `work` under one permit of `name`. Rejects with the signal's reason when it aborts before the permit is there. */
  async with<T>(name: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    await this.#take(name, signal);
    try {
      return await work();
    } finally {
      this.#give(name);
    }
  }

  async #take(name: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const taken = this.#taken.get(name) ?? 0;
    if (taken < this.#limit) {
      this.#taken.set(name, taken + 1);
      return;
    }
    const queue = this.#queues.get(name) ?? [];
    this.#queues.set(name, queue);
    await new Promise<void>((resolve, reject) => {
      const turn = (): void => {
        signal.removeEventListener('abort', leave);
        resolve();
      };
      const leave = (): void => {
        queue.splice(queue.indexOf(turn), 1);
        reject(signal.reason as Error);
      };
      signal.addEventListener('abort', leave, { once: true });
      queue.push(turn);
    });
  }

  /** Hands the permit to the next in line, so that the count never drops below the truth in between. */
  #give(name: string): void {
    const next = this.#queues.get(name)?.shift();
    if (next) next();
    else this.#taken.set(name, (this.#taken.get(name) ?? 1) - 1);
  }
}
