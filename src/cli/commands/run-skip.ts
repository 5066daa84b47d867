import type { Command } from 'commander';
import { skipStep } from '../../client/sdk.gen.js';
import { terminalText } from '../../core/terminal-text.js';
import { answer } from '../api.js';
import { apiCommand, idOf, type Cli } from '../cli.js';

export const runSkip = (cli: Cli): Command =>
  apiCommand(
    'skip',
    'Goes on without a parked step, for whoever did its work by hand or does without it (admins).',
    'hatchery run skip 01994a3e-0000-7000-8000-000000000001 allow-mac --reason by-hand',
  )
    .argument('<run>', 'id')
    .argument('<step>', 'its name in the run, e.g. desktop')
    .requiredOption('--reason <text>', 'why; kept in the audit list')
    .action(async (text: string, step: string, { reason }: { reason: string }) => {
      const id = idOf('run', text);
      const run = await answer(skipStep({ client: await cli.api(), path: { id, step }, body: { reason } }));
      cli.show(run, () => `Step ${terminalText(step)} is skipped; the run is ${run.state}.\n`);
    });
