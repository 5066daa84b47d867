import type { Command } from 'commander';
import { listGuests } from '../../client/sdk.gen.js';
import type { UncountedGuest } from '../../client/types.gen.js';
import { allItems, answer, PAGE } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';
import { tableText, type TableColumn } from '../render/table.js';

export const clusterGuests = (cli: Cli): Command =>
  apiCommand(
    'guests',
    'Guests in our range or pool that no machine of ours counts on: foreign, found, orphan or released, with their marks (admins).',
    'hatchery cluster guests main',
  )
    .argument('<cluster>', 'name')
    .action(async (name: string) => {
      const client = await cli.api();
      const items = await allItems((cursor) =>
        answer(listGuests({ client, path: { name }, query: { limit: PAGE, cursor } })),
      );
      cli.show({ items }, () =>
        items.length === 0
          ? 'Every guest in our range and pool is one of our machines.\n'
          : tableText(COLUMNS, items, cli.tableColumns),
      );
    });

const COLUMNS: readonly TableColumn<UncountedGuest>[] = [
  { title: 'vmid', value: ({ vmid }) => vmid, align: 'right' },
  { title: 'node', value: ({ node }) => node },
  { title: 'what', value: ({ what }) => what },
  { title: 'name', value: ({ name, kind }) => `${name ?? ''}${kind === 'lxc' ? ' (container)' : ''}` },
  { title: 'pool', value: ({ pool }) => pool },
  {
    title: 'mark',
    value: ({ mark }) => mark && `machine ${mark.machine}, step ${mark.step}, VMID ${mark.vmid}`,
  },
  { title: 'detail', value: ({ detail }) => detail },
  { title: 'next', value: ({ next }) => next },
];
