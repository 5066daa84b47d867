import type { Command } from 'commander';
import { listRestingVmids } from '../../client/sdk.gen.js';
import type { RestingVmid } from '../../client/types.gen.js';
import { answer } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';
import { timeText } from '../render/facts.js';
import { tableText, type TableColumn } from '../render/table.js';

const PAGE = 200;

export const clusterVmids = (cli: Cli): Command =>
  apiCommand(
    'vmids',
    'VMIDs of a cluster that rest before they are used again (admins).',
    'hatchery cluster vmids main',
  )
    .argument('<cluster>', 'name')
    .action(async (name: string) => {
      const client = await cli.api();
      const items: RestingVmid[] = [];
      for (let cursor: string | undefined; ;) {
        const query = { limit: PAGE, ...(cursor !== undefined && { cursor }) };
        const page = await answer(listRestingVmids({ client, path: { name }, query }));
        items.push(...page.items);
        if (page.nextCursor === null) break;
        cursor = page.nextCursor;
      }
      cli.show({ items }, () =>
        items.length === 0 ? 'No VMID rests.\n' : tableText(COLUMNS, items, cli.tableColumns),
      );
    });

const COLUMNS: readonly TableColumn<RestingVmid>[] = [
  { title: 'vmid', value: ({ vmid }) => vmid },
  { title: 'given back', value: ({ releasedAt }) => timeText(releasedAt) },
  { title: 'rests until', value: ({ restsUntil }) => timeText(restsUntil) },
  { title: 'why', value: ({ note }) => note },
];
