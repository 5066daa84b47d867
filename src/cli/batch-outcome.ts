import type { Client } from '../client/client/index.js';
import { batchResults, getBatch } from '../client/sdk.gen.js';
import type { Batch } from '../client/types.gen.js';
import { EXIT } from '../core/errors.js';
import { answer } from './api.js';
import { countText, type Cli } from './cli.js';
import { readyText } from './render/ready.js';
import { resultsText, summaryLines } from './render/results.js';
import { watchBatch } from './watch-batch.js';

/** What create and add do with an accepted batch: say so, or watch it to the results. */
export async function accepted(cli: Cli, api: Client, batch: Batch, isWaiting: boolean): Promise<void> {
  if (isWaiting) {
    if ((await watchBatch(cli, api, batch, 'ready')) !== undefined) await showOutcome(cli, api, batch.id);
    return;
  }
  const ready = readyText(batch);
  cli.show(
    batch,
    () =>
      `${batch.name} is accepted: ${countText(batch.counts.total, 'machine')}${ready === undefined ? '' : `, ${ready}`}.\n`,
  );
  cli.say(`Watch it with: hatchery batch watch ${batch.name}`);
}

/** The results of a batch that has come to rest; the exit code says whether all are ready. */
export async function showOutcome(cli: Cli, api: Client, id: string): Promise<void> {
  const results = await answer(batchResults({ client: api, path: { id } }));
  cli.show(results, () => resultsText(results, cli.tableColumns));
  const { total, ready, deleted } = results.counts;
  cli.exitCode = ready > 0 && ready + deleted === total ? EXIT.ok : EXIT.incomplete;
}

/** What is left of a batch that was deleted; the exit code says whether that is nothing. */
export async function showDeletion(cli: Cli, api: Client, id: string): Promise<void> {
  const batch = await answer(getBatch({ client: api, path: { id } }));
  const { causes } = await answer(batchResults({ client: api, path: { id } }));
  const isGone = batch.state === 'deleted';
  cli.show({ ...batch, causes }, () =>
    isGone
      ? `${batch.name} is deleted: ${countText(batch.counts.deleted, 'machine')}.\n`
      : [...summaryLines({ batch: batch.name, counts: batch.counts, causes }), ''].join('\n'),
  );
  cli.exitCode = isGone ? EXIT.ok : EXIT.incomplete;
}
