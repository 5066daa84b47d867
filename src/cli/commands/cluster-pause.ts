import type { Command } from 'commander';
import { pauseCluster } from '../../client/sdk.gen.js';
import { terminalText } from '../../core/terminal-text.js';
import { answer } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';

export const clusterPause = (cli: Cli): Command =>
  apiCommand(
    'pause',
    'Begins nothing more on a cluster: what runs goes on to its end, new batches are accepted and wait (admins).',
    'hatchery cluster pause main --reason upgrade',
  )
    .argument('<cluster>', 'name')
    .requiredOption('--reason <text>', 'why; shown to everybody whose machines wait')
    .action(async (name: string, { reason }: { reason: string }) => {
      const cluster = await answer(
        pauseCluster({ client: await cli.api(), path: { name }, body: { reason } }),
      );
      cli.show(cluster, () => `${terminalText(name)} is paused.\n`);
      cli.say(`What still runs: hatchery admin slots\nGo on with: hatchery cluster resume ${name}`);
    });
