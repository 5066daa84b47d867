import type { Command } from 'commander';
import { listUsers } from '../../client/sdk.gen.js';
import type { User } from '../../client/types.gen.js';
import { allItems, answer, PAGE } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';
import { timeText } from '../render/facts.js';
import { tableText, type TableColumn } from '../render/table.js';

export const userList = (cli: Cli): Command =>
  apiCommand('list', 'All accounts (admins).', 'hatchery user list').action(async () => {
    const client = await cli.api();
    const items = await allItems((cursor) => answer(listUsers({ client, query: { limit: PAGE, cursor } })));
    cli.show({ items }, () => tableText(COLUMNS, items, cli.tableColumns));
  });

const COLUMNS: readonly TableColumn<User>[] = [
  { title: 'login', value: ({ login }) => login },
  { title: 'role', value: ({ role }) => role },
  { title: 'created', value: ({ createdAt }) => timeText(createdAt) },
  { title: 'disabled', value: ({ disabled }) => (disabled ? 'yes' : 'no') },
];
