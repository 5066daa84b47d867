/** Blocking workers: a call waits until one is free and then has it to itself. */
export class Workers {
  readonly #free: number[];
  readonly #waiting: ((worker: number) => void)[] = [];

  constructor(count: number) {
    this.#free = Array.from({ length: count }, (_, index) => index);
  }

  /** Gives `work` the number of its worker. */
  async run<T>(work: (worker: number) => Promise<T>): Promise<T> {
    const worker =
      this.#free.shift() ?? (await new Promise<number>((resolve) => this.#waiting.push(resolve)));
    try {
      return await work(worker);
    } finally {
      const next = this.#waiting.shift();
      if (next) next(worker);
      else this.#free.push(worker);
    }
  }
}
