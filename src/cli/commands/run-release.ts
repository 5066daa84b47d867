import type { Command } from 'commander';
import { releaseEffect } from '../../client/sdk.gen.js';
import { answer } from '../api.js';
import { apiCommand, idOf, type Cli } from '../cli.js';

export const runRelease = (cli: Cli): Command =>
  apiCommand(
    'release',
    'Lets go of something made outside: it stays there, nothing of ours removes it, and the undo goes on without it (admins).',
    'hatchery run release 01994a3e-0000-7000-8000-000000000001 01994a3e-0000-7000-8000-000000000002 --reason kept-by-its-owner',
  )
    .argument('<run>', 'id')
    .argument('<effect>', 'id, as hatchery run show gives it')
    .requiredOption('--reason <text>', 'why; kept with it and in the audit list')
    .action(async (text: string, effectText: string, { reason }: { reason: string }) => {
      const id = idOf('run', text);
      const effect = idOf('effect', effectText);
      const run = await answer(
        releaseEffect({ client: await cli.api(), path: { id, effect }, body: { reason } }),
      );
      cli.show(run, () => `Nobody removes it any more; the run is ${run.state}.\n`);
      cli.say('All that was let go of: hatchery admin released');
    });
