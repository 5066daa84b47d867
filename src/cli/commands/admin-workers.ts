import type { Command } from 'commander';
import { listWorkers } from '../../client/sdk.gen.js';
import type { Worker } from '../../client/types.gen.js';
import { allItems, answer, PAGE } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';
import { sinceText, timeText } from '../render/facts.js';
import { tableText, type TableColumn } from '../render/table.js';

export const adminWorkers = (cli: Cli): Command =>
  apiCommand(
    'workers',
    'Workers of now and of the last hour: where, how busy, and when they were last heard (admins).',
    'hatchery admin workers',
  ).action(async () => {
    const client = await cli.api();
    const items = await allItems((cursor) => answer(listWorkers({ client, query: { limit: PAGE, cursor } })));
    cli.show({ items }, () =>
      items.length === 0
        ? 'No worker is known: start one (HATCHERY_ROLE=worker or all).\n'
        : tableText(COLUMNS, items, cli.tableColumns),
    );
  });

const COLUMNS: readonly TableColumn<Worker>[] = [
  { title: 'id', value: ({ id }) => id, minColumns: 36 },
  { title: 'host', value: ({ host }) => host },
  { title: 'pid', value: ({ pid }) => pid, align: 'right' },
  { title: 'state', value: ({ state }) => state },
  { title: 'steps', value: ({ steps }) => steps, align: 'right' },
  { title: 'up for', value: ({ startedAt }) => sinceText(startedAt), align: 'right' },
  { title: 'stopped', value: ({ stoppedAt }) => timeText(stoppedAt) },
];
