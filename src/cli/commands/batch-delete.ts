import type { Command } from 'commander';
import { deleteBatch, getBatch } from '../../client/sdk.gen.js';
import { answer } from '../api.js';
import { showDeletion } from '../batch-outcome.js';
import { apiCommand, countText, type Cli } from '../cli.js';
import { confirmByName } from '../confirm.js';
import { watchBatch } from '../watch-batch.js';

export const batchDelete = (cli: Cli): Command =>
  apiCommand(
    'delete',
    'Undoes every machine of a batch and waits for the end. Exit code 6: something is left.',
    'hatchery batch delete l3-info --yes',
  )
    .argument('<batch>', 'name or id')
    .option('--yes', 'do not ask for the name')
    .option('--no-wait', 'come back at once')
    .action(async (id: string, { yes, wait }: { yes?: true; wait: boolean }) => {
      const api = await cli.api();
      const found = await answer(getBatch({ client: api, path: { id } }));
      const machines = found.counts.total - found.counts.deleted;
      if (!yes)
        await confirmByName(
          cli.world.terminal,
          `the batch ${found.name} with ${countText(machines, 'machine')}`,
          found.name,
        );
      const batch = await answer(deleteBatch({ client: api, path: { id: found.id } }));
      if (wait) {
        if ((await watchBatch(cli, api, batch, 'deleted')) !== undefined)
          await showDeletion(cli, api, batch.id);
        return;
      }
      cli.show(batch, () => `${batch.name} is being deleted.\n`);
      cli.say(`Watch it with: hatchery batch watch ${batch.id}`);
    });
