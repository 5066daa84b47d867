import type { Command } from 'commander';
import { terminalText } from '../../core/terminal-text.js';
import { listClusters } from '../../client/sdk.gen.js';
import type { Cluster } from '../../client/types.gen.js';
import { answer } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';
import { tableText, type TableColumn } from '../render/table.js';

export const clusterList = (cli: Cli): Command =>
  apiCommand('list', 'The clusters of this site (admins).', 'hatchery cluster list').action(async () => {
    const { items } = await answer(listClusters({ client: await cli.api() }));
    cli.show({ items }, () => tableText(COLUMNS, items, cli.tableColumns) + stopLines(items));
  });

const COLUMNS: readonly TableColumn<Cluster>[] = [
  { title: 'name', value: ({ name }) => name },
  { title: 'kind', value: ({ kind }) => kind },
  { title: 'pool', value: ({ pool }) => pool },
  { title: 'vmids', value: ({ vmids }) => `${vmids.from}-${vmids.to}` },
  { title: 'state', value: ({ stops }) => stateOf(stops) },
  { title: 'endpoints', value: ({ endpoints }) => endpoints.join(', ') },
];

function stateOf(stops: Cluster['stops']): string {
  if (stops.length === 0) return 'working';
  return stops.every(({ code }) => code === 'cluster-paused') ? 'paused' : 'stopped';
}

function stopLines(clusters: readonly Cluster[]): string {
  return clusters
    .flatMap(({ stops }) => stops)
    .map(
      ({ detail, hint }) =>
        `\n${terminalText(detail)}\n${hint === undefined ? '' : `  ${terminalText(hint)}\n`}`,
    )
    .join('');
}
