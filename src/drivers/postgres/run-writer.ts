import { StoreUnavailable } from '../../ports/store-unavailable.js';
import type { Database } from './database.js';
import { Joined } from './joined.js';
import { settlesOf, writeInHand, type Written, type WrittenInHand } from './run-changes.js';

/** Rows of so many runs go into one statement. */
const MOST = 50;

/** Writes runs in hand, those of all attempts of this process together, so that many at once pay for one commit. Each is written or refused by itself. */
export class RunWriter {
  private readonly joined = new Joined<Written, boolean>(MOST, (some) => this.writeSome(some));

  constructor(private readonly database: Database) {}

  /** False: nothing of this run was written, it has to be read again. */
  async write(written: Written): Promise<boolean> {
    // Of two that start from the same version the first makes the second one stale.
    const isTwice = this.joined.items.some((other) => other.at.run.id === written.at.run.id);
    return !isTwice && this.joined.ask(written);
  }

  private async writeSome(some: readonly Written[]): Promise<readonly boolean[]> {
    try {
      const { text, values } = writeInHand(some);
      const [answer] = await this.database.query<WrittenInHand>(text, values);
      for (const batchId of answer!.atRest ?? []) await this.settle(batchId);
      const ids = new Set(answer!.written);
      return some.map((one) => ids.has(one.at.run.id));
    } catch (error) {
      // What Postgres says against one of them is no word about the others: each is written by itself.
      if (error instanceof StoreUnavailable || some.length === 1) throw error;
      return some.map(() => false);
    }
  }

  /** The runs are written by now, whatever becomes of this: a batch that is left open is closed by the sweeper. */
  private async settle(batchId: string): Promise<void> {
    await this.database.write(settlesOf(batchId)).catch((error: unknown) => {
      if (!(error instanceof StoreUnavailable)) throw error;
    });
  }
}
