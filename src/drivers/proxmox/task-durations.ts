/** Where learning begins: medians of the operations of a student's machine. */
const FIRST_GUESS_MS: Readonly<Record<string, number>> = {
  'linked qmclone': 2_000,
  qmclone: 10_000,
  resize: 500,
  qmstart: 2_800,
  qmstop: 1_000,
  qmdestroy: 2_000,
  vzcreate: 8_000,
  'linked vzclone': 2_000,
  vzclone: 10_000,
  vzstart: 2_500,
  vzstop: 1_000,
  vzdestroy: 1_500,
};
const OTHER_MS = 1_000;
const LEAST_MS = 20;
/** Up when a first look came too early, down when it did not: in balance three of four first looks find the task over. */
const UP = 1.15;
const DOWN = 0.95;
/** A look that came this much later than expected, for other reasons, tells nothing. */
const LATE = 1.5;

/**
 * When tasks of a kind are over here, in ms after they were begun. Learned from the looks themselves: the lists tell whole seconds of the
 * node's clock, which is too coarse for tasks that take one or two.
 */
export class TaskDurations {
  readonly #scale: number;
  readonly #expected = new Map<string, number>();

  constructor(remoteTimeScale: number) {
    this.#scale = remoteTimeScale;
  }

  expectedMs(kind: string): number {
    return this.#expected.get(kind) ?? Math.max(LEAST_MS, (FIRST_GUESS_MS[kind] ?? OTHER_MS) * this.#scale);
  }

  /** A look at a task, so long after it was begun. Gives whether it told anything: one that came early and finds the task running does not. */
  noteLook(kind: string, afterMs: number, isOver: boolean): boolean {
    const expected = this.expectedMs(kind);
    if (!isOver && afterMs < expected) return false;
    if (!isOver) this.#expected.set(kind, Math.max(expected, afterMs) * UP);
    else if (afterMs <= expected * LATE) this.#expected.set(kind, Math.max(LEAST_MS, expected * DOWN));
    return true;
  }
}
