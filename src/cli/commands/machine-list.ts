import { Option, type Command } from 'commander';
import { listBatchMachines, listMachines } from '../../client/sdk.gen.js';
import type { Machine } from '../../client/types.gen.js';
import { MACHINE_STATES, type MachineState } from '../../core/states.js';
import { allItems, answer, PAGE } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';
import { tableText, type TableColumn } from '../render/table.js';

export const machineList = (cli: Cli): Command =>
  apiCommand(
    'list',
    'Machines, newest first; those of one batch in the order of its roster.',
    'hatchery machine list --batch l3-info --state parked',
  )
    .option('--batch <batch>', 'only of this batch (name or id)')
    .addOption(new Option('--state <state>', 'only in this state').choices(MACHINE_STATES))
    .action(async ({ batch, state }: { batch?: string; state?: MachineState }) => {
      const client = await cli.api();
      const items = await allItems((cursor) => {
        const query = { limit: PAGE, cursor, state };
        return answer(
          batch === undefined
            ? listMachines({ client, query })
            : listBatchMachines({ client, query, path: { id: batch } }),
        );
      });
      cli.show({ items }, () => tableText(COLUMNS, items, cli.tableColumns));
    });

const COLUMNS: readonly TableColumn<Machine>[] = [
  { title: 'machine', value: ({ name }) => name },
  { title: 'login', value: ({ login }) => login },
  { title: 'batch', value: ({ batch }) => batch.name },
  { title: 'state', value: ({ state }) => state },
  { title: 'vmid', value: ({ vmid }) => vmid, align: 'right' },
  { title: 'node', value: ({ node }) => node },
  { title: 'address', value: ({ address }) => address, minColumns: 15 },
  { title: 'code', value: ({ error }) => error?.code },
  { title: 'id', value: ({ id }) => id, minColumns: 36 },
];
