import type { Command } from 'commander';
import { createBatch } from '../../client/sdk.gen.js';
import { answer } from '../api.js';
import { apiCommand, flag, type Cli } from '../cli.js';
import { accepted } from '../batch-outcome.js';
import { rosterFile } from '../roster-file.js';
import { submit } from '../submit.js';

export const batchCreate = (cli: Cli): Command =>
  apiCommand(
    'create',
    'Makes one machine for each person of a class list. Exit code 6: finished, not all ready.',
    'hatchery batch create class.csv --blueprint student-desktop --name l3-info --wait',
  )
    .argument('<roster>', 'class list, CSV or XLSX')
    .requiredOption('--blueprint <name>', 'what the machines are made from (required)')
    .requiredOption('--name <name>', 'name of the batch (required)')
    .option('--skip-existing', 'leave out people who already have such a machine')
    .option('--notify-url <url>', 'gets the summary once, at the end')
    .option('--wait', 'watch until all are ready or failed, then show the results')
    .action(async (path: string, { blueprint, name, notifyUrl, skipExisting, wait }: CreateOptions) => {
      const body = {
        blueprint,
        name,
        ...(notifyUrl === undefined ? {} : { notifyUrl }),
        roster: await rosterFile(path),
        skipExisting: flag(skipExisting),
      };
      const api = await cli.api();
      const batch = await submit(cli, (key) =>
        answer(createBatch({ client: api, body, headers: { 'Idempotency-Key': key } })),
      );
      await accepted(cli, api, batch, wait === true);
    });

interface CreateOptions {
  readonly blueprint: string;
  readonly name: string;
  readonly skipExisting?: true;
  readonly notifyUrl?: string;
  readonly wait?: true;
}
