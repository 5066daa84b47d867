export interface PaceMs {
  /** Between two lists while some are left. */
  readonly quick: number;
  /** In which one more may be read. */
  readonly steady: number;
}

/** How many may follow each other quickly. */
const BURST = 4;

/**
 * How often the task list of one node may be read: a few times in a row for a few tasks, and in the long run once per `steady`, however many
 * tasks there are and however many processes wait for them. Times in ms of one monotonic clock.
 */
export class ListPace {
  readonly #pace: PaceMs;
  #left = BURST;
  #lastMs: number | undefined;

  constructor(pace: PaceMs) {
    this.#pace = pace;
  }

  /** Also for a list that another process read. */
  noteList(nowMs: number): void {
    this.#left = Math.max(0, this.#leftAt(nowMs) - 1);
    this.#lastMs = nowMs;
  }

  /** The first moment at which the next list may be read. */
  earliestMs(nowMs: number): number {
    if (this.#lastMs === undefined) return nowMs;
    const left = this.#leftAt(nowMs);
    const whenOneIsLeft = left >= 1 ? nowMs : nowMs + (1 - left) * this.#pace.steady;
    return Math.max(this.#lastMs + this.#pace.quick, whenOneIsLeft);
  }

  #leftAt(nowMs: number): number {
    if (this.#lastMs === undefined) return BURST;
    return Math.min(BURST, this.#left + (nowMs - this.#lastMs) / this.#pace.steady);
  }
}
