import { Option, type Command } from 'commander';
import type { Run } from '../../client/types.gen.js';
import { RUN_STATES, type RunState } from '../../core/states.js';
import { apiCommand, type Cli } from '../cli.js';
import { findRuns } from '../find-runs.js';
import { timeText } from '../render/facts.js';
import { tableText, type TableColumn } from '../render/table.js';

export const runList = (cli: Cli): Command =>
  apiCommand('list', 'Runs, newest first.', 'hatchery run list --batch l3-info --code address-unknown')
    .option('--batch <batch>', 'only of this batch (name or id)')
    .option('--machine <id>', 'only of this machine')
    .option('--code <code>', 'only those stopped by this error')
    .addOption(new Option('--state <state>', 'only in this state').choices(RUN_STATES))
    .action(async (query: { batch?: string; machine?: string; code?: string; state?: RunState }) => {
      const { batch, machine, code, state } = query;
      const items = await findRuns(await cli.api(), { batch, machine, code, state });
      cli.show({ items }, () => tableText(COLUMNS, items, cli.tableColumns));
    });

const COLUMNS: readonly TableColumn<Run>[] = [
  { title: 'id', value: ({ id }) => id, minColumns: 36 },
  { title: 'machine', value: ({ machine }) => machine.name },
  { title: 'batch', value: ({ batch }) => batch.name },
  { title: 'state', value: ({ state }) => state },
  { title: 'wanted', value: ({ wanted }) => wanted },
  { title: 'created', value: ({ createdAt }) => timeText(createdAt) },
  { title: 'code', value: ({ error }) => error?.code },
  { title: 'reason', value: ({ error }) => error?.message },
];
