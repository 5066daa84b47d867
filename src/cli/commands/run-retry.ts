import type { Command } from 'commander';
import type { Client } from '../../client/client/index.js';
import { retryRun } from '../../client/sdk.gen.js';
import type { Run } from '../../client/types.gen.js';
import { HatcheryError } from '../../core/errors.js';
import { answer } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';
import { findRuns } from '../find-runs.js';

export const runRetry = (cli: Cli): Command =>
  apiCommand(
    'retry',
    'Makes the failed or parked steps of runs due again: of the ids given, or of a batch.',
    'hatchery run retry --batch l3-info --code address-unknown',
  )
    .argument('[runs...]', 'ids')
    .option('--batch <batch>', 'all parked runs of this batch (name or id)')
    .option('--code <code>', 'of these only the runs stopped by this error')
    .action(async (ids: string[], { batch, code }: { batch?: string; code?: string }) => {
      if (ids.length > 0 === (batch !== undefined) || (code !== undefined && batch === undefined))
        throw new HatcheryError('request-invalid', 'Unable to retry: give either ids of runs or --batch', {
          hint: 'hatchery run retry ID, or hatchery run retry --batch NAME --code CODE',
        });
      const api = await cli.api();
      const wanted = batch === undefined ? ids : await parkedRuns(api, batch, code);
      const items: Run[] = [];
      for (const id of wanted) items.push(await answer(retryRun({ client: api, path: { id } })));
      cli.show({ items }, () => `${items.length} ${items.length === 1 ? 'run goes' : 'runs go'} on.\n`);
      const [first] = items;
      if (first) cli.say(`Watch with: hatchery batch watch ${first.batch.name}`);
    });

async function parkedRuns(api: Client, batch: string, code: string | undefined): Promise<string[]> {
  const runs = await findRuns(api, { batch, code, state: 'parked' });
  return runs.map(({ id }) => id);
}
