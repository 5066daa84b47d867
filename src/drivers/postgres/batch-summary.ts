import { batchResults, type BatchResults } from '../../core/results.js';
import type { ErrorRecord } from '../../core/errors.js';
import type { Database } from './database.js';

export interface BatchSummary {
  readonly url: string;
  /** Counts and failures by cause; people and addresses stay here. */
  readonly body: {
    readonly batch: string;
    readonly id: string;
    readonly counts: BatchResults['counts'];
    readonly causes: BatchResults['causes'];
  };
}

/** What is posted to a batch's notify URL when it has come to rest; `undefined` when it has none. */
export async function batchSummary(database: Database, batchId: string): Promise<BatchSummary | undefined> {
  const [batch] = await database.query<{ name: string; url: string | null }>(
    'select name, notify_url as url from batches where id = $1',
    [batchId],
  );
  if (!batch || batch.url === null) return undefined;
  const machines = await database.query<{
    login: string;
    name: string;
    vmid: number;
    node: string;
    state: 'ready';
    error: ErrorRecord | null;
  }>('select login, name, vmid, node, state, error from machines where batch_id = $1 order by row', [
    batchId,
  ]);
  const { counts, causes } = batchResults(
    batch.name,
    machines.map(({ login, name, vmid, node, state, error }) => ({
      login,
      lastName: '',
      firstName: '',
      machine: name,
      vmid,
      node,
      state,
      ...(error === null ? {} : { code: error.code, reason: error.message }),
    })),
  );
  return { url: batch.url, body: { batch: batch.name, id: batchId, counts, causes } };
}
