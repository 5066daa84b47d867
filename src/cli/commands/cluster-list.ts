import type { Command } from 'commander';
import { listClusters } from '../../client/sdk.gen.js';
import type { Cluster } from '../../client/types.gen.js';
import { answer } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';
import { tableText, type TableColumn } from '../render/table.js';

export const clusterList = (cli: Cli): Command =>
  apiCommand('list', 'The clusters of this site (admins).', 'hatchery cluster list').action(async () => {
    const { items } = await answer(listClusters({ client: await cli.api() }));
    cli.show({ items }, () => tableText(COLUMNS, items, cli.tableColumns));
  });

const COLUMNS: readonly TableColumn<Cluster>[] = [
  { title: 'name', value: ({ name }) => name },
  { title: 'kind', value: ({ kind }) => kind },
  { title: 'pool', value: ({ pool }) => pool },
  { title: 'vmids', value: ({ vmids }) => `${vmids.from}-${vmids.to}` },
  { title: 'endpoints', value: ({ endpoints }) => endpoints.join(', ') },
];
