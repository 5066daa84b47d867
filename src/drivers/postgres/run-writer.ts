import { StoreUnavailable } from '../../ports/store-unavailable.js';
import type { Database } from './database.js';
import { writesOf, type QuarantineOf, type Written } from './run-changes.js';

/** Rows of so many runs go into one statement. */
const MOST = 50;

interface Waiting {
  readonly written: Written;
  readonly resolve: (isWritten: boolean) => void;
  readonly reject: (why: unknown) => void;
}

/**
 * Writes runs in hand, those of all attempts of this process together: while one statement is on its way the next ones gather, so that many
 * at once pay for one commit. Each run is written or refused by itself.
 */
export class RunWriter {
  private waiting: Waiting[] = [];
  private isWriting = false;

  constructor(
    private readonly database: Database,
    private readonly quarantineOf: QuarantineOf,
  ) {}

  /** False: nothing of this run was written, it has to be read again. */
  async write(written: Written): Promise<boolean> {
    const isThere = this.waiting.some((other) => other.written.at.run.id === written.at.run.id);
    // Both start from the same version: the first to write makes the second one stale.
    if (isThere) return false;
    return new Promise((resolve, reject) => {
      this.waiting.push({ written, resolve, reject });
      if (!this.isWriting) void this.writeAll();
    });
  }

  private async writeAll(): Promise<void> {
    this.isWriting = true;
    // What becomes ready in the same turn goes along.
    await Promise.resolve();
    while (this.waiting.length > 0) await this.writeSome(this.waiting.splice(0, MOST));
    this.isWriting = false;
  }

  private async writeSome(some: readonly Waiting[]): Promise<void> {
    try {
      const writes = writesOf(
        some.map(({ written }) => written),
        'in-hand',
        this.quarantineOf,
      );
      const [answer] = await this.database.write(writes);
      const ids = new Set(answer![0]!['written'] as readonly string[]);
      for (const { written, resolve } of some) resolve(ids.has(written.at.run.id));
    } catch (error) {
      // What Postgres says against one of them is no word about the others: each is written by itself.
      const isAboutOne = !(error instanceof StoreUnavailable) && some.length > 1;
      for (const { resolve, reject } of some)
        if (isAboutOne) resolve(false);
        else reject(error);
    }
  }
}
