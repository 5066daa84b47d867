import type { Command } from 'commander';
import { adoptEffect } from '../../client/sdk.gen.js';
import { terminalText } from '../../core/terminal-text.js';
import { answer } from '../api.js';
import { apiCommand, idOf, type Cli } from '../cli.js';

export const runAdopt = (cli: Cli): Command =>
  apiCommand(
    'adopt',
    'Takes what is outside as the guest, entry or connection that the run made, when a read proves that it is (admins).',
    'hatchery run adopt 01994a3e-0000-7000-8000-000000000001 01994a3e-0000-7000-8000-000000000002 --reason restored',
  )
    .argument('<run>', 'id')
    .argument('<effect>', 'id, as hatchery run show gives it')
    .requiredOption('--reason <text>', 'why; kept in the audit list')
    .action(async (text: string, effectText: string, { reason }: { reason: string }) => {
      const id = idOf('run', text);
      const effect = idOf('effect', effectText);
      const adopted = await answer(
        adoptEffect({ client: await cli.api(), path: { id, effect }, body: { reason } }),
      );
      cli.show(adopted, () => `It is ours: ${terminalText(adopted.proof)}.\n`);
      cli.say(`Go on with: hatchery run retry ${id}`);
    });
