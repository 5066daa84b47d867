import type { EngineParts } from '../../../src/engine/engine.js';
import type { DispatchItem } from '../../../src/ports/dispatch.js';
import { replaced, type Build } from './build.js';

const SLOW_COMMIT_MS = 200;

class RolledBack extends Error {}

/** The queue is told first and Postgres after it, and no outbox remembers what was to be told (Q11). */
export const enqueueBeforeCommit: Build = {
  parts: (parts) => ({
    ...parts,
    store: replaced(parts.store, {
      changeInHand: async () => undefined,
      change: async (by, work) => {
        const items: DispatchItem[] = [];
        await parts.store
          .change(by, (loaded) => {
            items.push(...work(loaded).changes.dispatches);
            throw new RolledBack();
          })
          .catch((error: unknown) => {
            if (!(error instanceof RolledBack)) throw error;
          });
        await told(parts, items);
        return parts.store.change(by, (loaded) => {
          const { changes, result } = work(loaded);
          changes.dispatches.length = 0;
          return { changes, result };
        });
      },
    }),
  }),
};

/** A commit that takes its time: whoever hears of it from the queue is there first. */
async function told({ dispatch, clock }: EngineParts, items: readonly DispatchItem[]): Promise<void> {
  if (items.length === 0) return;
  await dispatch.send(items);
  while ((await dispatch.missing(items)).length < items.length) await clock.sleep(10);
  await clock.sleep(SLOW_COMMIT_MS);
}
