import type { Command } from 'commander';
import { listSlots } from '../../client/sdk.gen.js';
import type { Slot } from '../../client/types.gen.js';
import { allItems, answer, PAGE } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';
import { sinceText } from '../render/facts.js';
import { tableText, type TableColumn } from '../render/table.js';

export const adminSlots = (cli: Cli): Command =>
  apiCommand(
    'slots',
    'Slots that are held now: for which machine, for how long, by whom (admins).',
    'hatchery admin slots',
  ).action(async () => {
    const client = await cli.api();
    const items = await allItems((cursor) => answer(listSlots({ client, query: { limit: PAGE, cursor } })));
    cli.show({ items }, () =>
      items.length === 0 ? 'No slot is held.\n' : tableText(COLUMNS, items, cli.tableColumns),
    );
  });

const COLUMNS: readonly TableColumn<Slot>[] = [
  { title: 'resource', value: ({ resource, number }) => `${resource} #${number}`, minColumns: 24 },
  { title: 'for', value: ({ since }) => sinceText(since), align: 'right' },
  { title: 'machine', value: ({ machine }) => machine },
  { title: 'step', value: ({ step, state }) => `${step} (${state})` },
  {
    title: 'worker',
    value: ({ by }) => (by === null ? 'none: its task goes on' : `${by.pid} on ${by.host}`),
  },
  { title: 'batch', value: ({ batch }) => batch },
  { title: 'run', value: ({ run }) => run, minColumns: 36 },
];
