import type { Command } from 'commander';
import { listReleased } from '../../client/sdk.gen.js';
import type { ReleasedEffect } from '../../client/types.gen.js';
import { allItems, answer, PAGE } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';
import { timeText } from '../render/facts.js';
import { tableText, type TableColumn } from '../render/table.js';

export const adminReleased = (cli: Cli): Command =>
  apiCommand(
    'released',
    'What people let go of: it is still outside, and nothing of ours removes it (admins).',
    'hatchery admin released',
  ).action(async () => {
    const client = await cli.api();
    const items = await allItems((cursor) =>
      answer(listReleased({ client, query: { limit: PAGE, cursor } })),
    );
    cli.show({ items }, () =>
      items.length === 0 ? 'Nothing was let go of.\n' : tableText(COLUMNS, items, cli.tableColumns),
    );
  });

const COLUMNS: readonly TableColumn<ReleasedEffect>[] = [
  { title: 'kind', value: ({ kind }) => kind },
  { title: 'system', value: ({ system }) => system },
  { title: 'key', value: ({ key }) => key },
  { title: 'machine', value: ({ machine }) => machine },
  { title: 'batch', value: ({ batch }) => batch },
  { title: 'released', value: ({ releasedAt }) => timeText(releasedAt) },
  { title: 'by', value: ({ by }) => by },
  { title: 'why', value: ({ why }) => why },
];
