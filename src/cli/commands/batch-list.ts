import type { Command } from 'commander';
import { listBatches } from '../../client/sdk.gen.js';
import type { Batch } from '../../client/types.gen.js';
import { allItems, answer, PAGE } from '../api.js';
import { apiCommand, flag, type Cli } from '../cli.js';
import { timeText } from '../render/facts.js';
import { tableText, type TableColumn } from '../render/table.js';

export const batchList = (cli: Cli): Command =>
  apiCommand('list', 'Batches, newest first.', 'hatchery batch list --deleted')
    .option('--deleted', 'also those that are deleted')
    .action(async ({ deleted }: { deleted?: true }) => {
      const api = await cli.api();
      const items = await allItems((cursor) =>
        answer(listBatches({ client: api, query: { limit: PAGE, cursor, deleted: flag(deleted) } })),
      );
      cli.show({ items }, () => tableText(COLUMNS, items, cli.tableColumns));
    });

const COLUMNS: readonly TableColumn<Batch>[] = [
  { title: 'name', value: ({ name }) => name },
  { title: 'state', value: ({ state }) => state },
  { title: 'ready', value: ({ counts }) => `${counts.ready}/${counts.total}`, align: 'right' },
  { title: 'stuck', value: ({ counts }) => counts.parked + counts.failed, align: 'right' },
  { title: 'blueprint', value: ({ blueprint }) => blueprint.name },
  { title: 'owner', value: ({ owner }) => owner },
  { title: 'created', value: ({ createdAt }) => timeText(createdAt) },
];
