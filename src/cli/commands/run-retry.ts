import type { Command } from 'commander';
import type { Client } from '../../client/client/index.js';
import { retryBatch, retryRun } from '../../client/sdk.gen.js';
import type { Run } from '../../client/types.gen.js';
import { HatcheryError } from '../../core/errors.js';
import { answer } from '../api.js';
import { apiCommand, countText, idOf, type Cli } from '../cli.js';
import { retriedText } from './batch-retry.js';

export const runRetry = (cli: Cli): Command =>
  apiCommand(
    'retry',
    'Parked runs go on from the step that stopped them, forward or in their undo; a failed one was undone and is made anew.',
    'hatchery run retry --batch l3-info --code address-unknown',
  )
    .alias('resume')
    .argument('[runs...]', 'ids')
    .option('--batch <batch>', 'all parked runs of this batch (name or id)')
    .option('--code <code>', 'of these only the runs stopped by this error')
    .action(async (ids: string[], { batch, code }: { batch?: string; code?: string }) => {
      if (ids.length > 0 === (batch !== undefined) || (code !== undefined && batch === undefined))
        throw new HatcheryError('request-invalid', 'Unable to retry: give either ids of runs or --batch', {
          hint: 'hatchery run retry ID, or hatchery run retry --batch NAME --code CODE',
        });
      for (const id of ids) idOf('run', id);
      const api = await cli.api();
      if (batch !== undefined) {
        const body = { which: 'parked', ...(code !== undefined && { code }) } as const;
        const retried = await answer(retryBatch({ client: api, path: { id: batch }, body }));
        cli.show(retried, () => `${retriedText(retried)}\n`);
        cli.say(`Watch with: hatchery batch watch ${retried.batch.name}`);
        return;
      }
      const items = await retryAll(api, ids);
      cli.show(
        { items },
        () => `${countText(items.length, 'run')} ${items.length === 1 ? 'goes' : 'go'} on.\n`,
      );
      const [first] = items;
      if (first) cli.say(`Watch with: hatchery batch watch ${first.batch.name}`);
    });

async function retryAll(api: Client, ids: readonly string[]): Promise<Run[]> {
  const items: Run[] = [];
  for (const id of ids) items.push(await answer(retryRun({ client: api, path: { id } })));
  return items;
}
