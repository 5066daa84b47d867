import { Option, type Command } from 'commander';
import { listBatchMachines, listMachines } from '../../client/sdk.gen.js';
import type { Machine } from '../../client/types.gen.js';
import { MACHINE_STATES, type MachineState } from '../../core/states.js';
import { allItems, answer, PAGE } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';
import { readyText } from '../render/ready.js';
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
      const shown = COLUMNS.filter(
        (column) => column !== EXPECTED || items.some((item) => item.expectedReadyAt !== null),
      );
      cli.show({ items }, () => tableText(shown, items, cli.tableColumns));
    });

/** Shown while something is at work. */
const EXPECTED: TableColumn<Machine> = {
  title: 'expected',
  value: (machine) => readyText(machine),
};
const COLUMNS: readonly TableColumn<Machine>[] = [
  { title: 'machine', value: ({ name }) => name },
  { title: 'login', value: ({ login }) => login },
  { title: 'batch', value: ({ batch }) => batch.name },
  { title: 'state', value: ({ state }) => state },
  { title: 'vmid', value: ({ vmid }) => vmid, align: 'right' },
  { title: 'node', value: ({ node }) => node },
  { title: 'address', value: ({ address }) => address, minColumns: 15 },
  EXPECTED,
  { title: 'code', value: ({ error }) => error?.code },
  { title: 'id', value: ({ id }) => id, minColumns: 36 },
];
