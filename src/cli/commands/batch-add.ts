import type { Command } from 'commander';
import { addMachines } from '../../client/sdk.gen.js';
import { answer } from '../api.js';
import { accepted } from '../batch-outcome.js';
import { apiCommand, flag, type Cli } from '../cli.js';
import { rosterFile } from '../roster-file.js';
import { submit } from '../submit.js';

export const batchAdd = (cli: Cli): Command =>
  apiCommand(
    'add',
    'More machines for a batch, from its own blueprint.',
    'hatchery batch add l3-info late.csv --wait',
  )
    .argument('<batch>', 'name or id')
    .argument('<roster>', 'class list, CSV or XLSX')
    .option('--skip-existing', 'leave out people who already have such a machine')
    .option('--wait', 'watch until all are ready or failed, then show the results')
    .action(async (id: string, path: string, options: { skipExisting?: true; wait?: true }) => {
      const body = { roster: await rosterFile(path), skipExisting: flag(options.skipExisting) };
      const api = await cli.api();
      const batch = await submit(cli, (key) =>
        answer(addMachines({ client: api, path: { id }, body, headers: { 'Idempotency-Key': key } })),
      );
      await accepted(cli, api, batch, options.wait === true);
    });
