import type { Command } from 'commander';
import { cancelBatch } from '../../client/sdk.gen.js';
import { answer } from '../api.js';
import { showOutcome } from '../batch-outcome.js';
import { apiCommand, type Cli } from '../cli.js';
import { watchBatch } from '../watch-batch.js';

export const batchCancel = (cli: Cli): Command =>
  apiCommand(
    'cancel',
    'Stops what is not finished, lets running steps end and undoes them.',
    'hatchery batch cancel l3-info --wait',
  )
    .argument('<batch>', 'name or id')
    .option('--wait', 'watch until everything has come to rest, then show the results')
    .action(async (id: string, { wait }: { wait?: true }) => {
      const api = await cli.api();
      const batch = await answer(cancelBatch({ client: api, path: { id } }));
      if (wait) {
        if ((await watchBatch(cli, api, batch, 'deleted')) !== undefined)
          await showOutcome(cli, api, batch.id);
        return;
      }
      cli.show(batch, () => `${batch.name} is being cancelled.\n`);
      cli.say(`Watch it with: hatchery batch watch ${batch.name}`);
    });
