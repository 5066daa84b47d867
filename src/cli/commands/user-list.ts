import type { Command } from 'commander';
import { listUsers } from '../../client/sdk.gen.js';
import type { User } from '../../client/types.gen.js';
import { answer } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';
import { timeText } from '../render/facts.js';
import { tableText, type TableColumn } from '../render/table.js';

export const userList = (cli: Cli): Command =>
  apiCommand('list', 'All accounts (admins).', 'hatchery user list').action(async () => {
    const { items } = await answer(listUsers({ client: await cli.api() }));
    cli.show({ items }, () => tableText(COLUMNS, items, cli.tableColumns));
  });

const COLUMNS: readonly TableColumn<User>[] = [
  { title: 'login', value: ({ login }) => login },
  { title: 'role', value: ({ role }) => role },
  { title: 'created', value: ({ createdAt }) => timeText(createdAt) },
  { title: 'disabled', value: ({ disabled }) => (disabled ? 'yes' : 'no') },
];
