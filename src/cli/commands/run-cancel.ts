import type { Command } from 'commander';
import { cancelRun } from '../../client/sdk.gen.js';
import { terminalText } from '../../core/terminal-text.js';
import { answer } from '../api.js';
import { apiCommand, idOf, type Cli } from '../cli.js';

export const runCancel = (cli: Cli): Command =>
  apiCommand(
    'cancel',
    'Stops a run and undoes what it made, at any moment. A machine that is ready is deleted.',
    'hatchery run cancel 01994a3e-0000-7000-8000-000000000001',
  )
    .argument('<run>', 'id')
    .action(async (text: string) => {
      const id = idOf('run', text);
      const run = await answer(cancelRun({ client: await cli.api(), path: { id } }));
      cli.show(run, () => `${terminalText(run.machine.name)} goes: its run is ${run.state}.\n`);
      cli.say(`See how far it is with: hatchery run show ${id}`);
    });
