import type { Terminal } from '../world.js';
import { nextFrame, plainProgress, progressLines, type BatchProgress } from './progress.js';

/** The bar of a batch, drawn again in place on a terminal; elsewhere a plain line now and then. */
export class LiveProgress {
  #shown: BatchProgress | undefined;
  #lines = 0;

  constructor(private readonly terminal: Terminal) {}

  update(progress: BatchProgress): void {
    const before = this.#shown;
    this.#shown = progress;
    if (this.terminal.isErrTty) this.#draw();
    else for (const line of plainProgress(before, progress)) this.terminal.err(`${line}\n`);
  }

  /** A line that stays, above the bar. */
  tell(line: string): void {
    if (this.terminal.isErrTty) this.terminal.err(nextFrame(this.#lines, []));
    this.#lines = 0;
    this.terminal.err(`${line}\n`);
    if (this.terminal.isErrTty) this.#draw();
  }

  #draw(): void {
    if (this.#shown === undefined) return;
    // The last column stays free: a full line makes some terminals break it.
    const lines = progressLines(this.#shown, { columns: this.terminal.width() - 1 });
    this.terminal.err(nextFrame(this.#lines, lines));
    this.#lines = lines.length;
  }
}
