import type { Command } from 'commander';
import { getRun } from '../../client/sdk.gen.js';
import { answer } from '../api.js';
import { apiCommand, idOf, type Cli } from '../cli.js';
import { runText } from '../render/run.js';

export const runShow = (cli: Cli): Command =>
  apiCommand(
    'show',
    'One run: its steps, their attempts, and what was made outside.',
    'hatchery run show 01994a3e-0000-7000-8000-000000000001',
  )
    .argument('<run>', 'id')
    .action(async (id: string) => {
      const run = await answer(getRun({ client: await cli.api(), path: { id: idOf('run', id) } }));
      cli.show(run, () => runText(run, cli.tableColumns));
    });
