/** Time that passes only between events: whatever happens at one moment is over before the next one comes. */
export class VirtualTime {
  #nowMs = 0;
  readonly #due: { readonly atMs: number; readonly order: number; readonly wake: () => void }[] = [];
  #scheduled = 0;

  get nowMs(): number {
    return this.#nowMs;
  }

  sleep(ms: number): Promise<void> {
    return new Promise((wake) => {
      this.#scheduled += 1;
      this.#push({ atMs: this.#nowMs + Math.max(0, ms), order: this.#scheduled, wake });
    });
  }

  /** Lets time pass until `work` is over. Error: it waits for something that never comes. */
  async run<T>(work: Promise<T>): Promise<T> {
    let isOver = false;
    const watched = work.finally(() => (isOver = true));
    // Its end is looked at below.
    watched.catch(() => undefined);
    for (;;) {
      await new Promise(setImmediate);
      if (isOver) return watched;
      const next = this.#due.shift();
      if (next === undefined) throw new Error('nothing is due any more, and the work is not over');
      this.#nowMs = next.atMs;
      next.wake();
    }
  }

  #push(event: { atMs: number; order: number; wake: () => void }): void {
    let [low, high] = [0, this.#due.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#due[middle]!.atMs <= event.atMs) low = middle + 1;
      else high = middle;
    }
    this.#due.splice(low, 0, event);
  }
}

/** `width` places; a free one goes at once to the waiter with the lowest `turn`. */
export class Places {
  #free: number;
  readonly #waiting: { readonly turn: number; readonly take: () => void }[] = [];

  constructor(width: number) {
    this.#free = width;
  }

  async with<T>(turn: number, work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((take) => this.#waiting.push({ turn, take }));
    try {
      return await work();
    } finally {
      this.#next();
    }
  }

  #next(): void {
    let first = 0;
    for (const [index, { turn }] of this.#waiting.entries())
      if (turn < this.#waiting[first]!.turn) first = index;
    const [next] = this.#waiting.splice(first, 1);
    if (next) next.take();
    else this.#free += 1;
  }
}
