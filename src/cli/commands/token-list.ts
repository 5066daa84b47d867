import type { Command } from 'commander';
import { listTokens } from '../../client/sdk.gen.js';
import type { Token } from '../../client/types.gen.js';
import { allItems, answer, PAGE } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';
import { timeText } from '../render/facts.js';
import { tableText, type TableColumn } from '../render/table.js';

export const tokenList = (cli: Cli): Command =>
  apiCommand('list', 'Your tokens.', 'hatchery token list').action(async () => {
    const client = await cli.api();
    const items = await allItems((cursor) => answer(listTokens({ client, query: { limit: PAGE, cursor } })));
    cli.show({ items }, () => tableText(COLUMNS, items, cli.tableColumns));
  });

const COLUMNS: readonly TableColumn<Token>[] = [
  { title: 'id', value: ({ id }) => id, minColumns: 36 },
  { title: 'name', value: ({ name }) => name },
  { title: 'created', value: ({ createdAt }) => timeText(createdAt) },
  { title: 'expires', value: ({ expiresAt }) => timeText(expiresAt) ?? 'never' },
  { title: 'last used', value: ({ lastUsedAt }) => timeText(lastUsedAt) ?? 'never' },
];
