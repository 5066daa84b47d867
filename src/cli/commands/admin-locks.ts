import type { Command } from 'commander';
import { listLocks } from '../../client/sdk.gen.js';
import type { Lock } from '../../client/types.gen.js';
import { answer } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';
import { sinceText } from '../render/facts.js';
import { tableText, type TableColumn } from '../render/table.js';

export const adminLocks = (cli: Cli): Command =>
  apiCommand(
    'locks',
    'Locks that are held now: who, why, for how long (admins).',
    'hatchery admin locks',
  ).action(async () => {
    const { items } = await answer(listLocks({ client: await cli.api() }));
    cli.show({ items }, () =>
      items.length === 0 ? 'No lock is held.\n' : tableText(COLUMNS, items, cli.tableColumns),
    );
  });

const COLUMNS: readonly TableColumn<Lock>[] = [
  { title: 'lock', value: ({ name }) => name },
  { title: 'for', value: ({ since }) => sinceText(since), align: 'right' },
  { title: 'held by', value: ({ holder }) => holder },
  { title: 'machine', value: ({ machine }) => machine },
  { title: 'why', value: ({ why }) => why },
];
