import type { Command } from 'commander';
import { resumeCluster } from '../../client/sdk.gen.js';
import { terminalText } from '../../core/terminal-text.js';
import { answer } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';

export const clusterResume = (cli: Cli): Command =>
  apiCommand('resume', 'Goes on with a paused cluster (admins).', 'hatchery cluster resume main')
    .argument('<cluster>', 'name')
    .action(async (name: string) => {
      const cluster = await answer(resumeCluster({ client: await cli.api(), path: { name } }));
      cli.show(cluster, () =>
        cluster.stops.length === 0
          ? `${terminalText(name)} goes on.\n`
          : `${terminalText(name)} is no longer paused, but stopped for another reason:\n${cluster.stops.map(({ detail }) => `  ${terminalText(detail)}\n`).join('')}`,
      );
    });
