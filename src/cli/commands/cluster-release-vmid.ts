import type { Command } from 'commander';
import { releaseVmid } from '../../client/sdk.gen.js';
import { HatcheryError } from '../../core/errors.js';
import { terminalText } from '../../core/terminal-text.js';
import { answer } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';

export const clusterReleaseVmid = (cli: Cli): Command =>
  apiCommand(
    'release-vmid',
    'Lets a resting VMID be used again before its time, after a look at the cluster (admins).',
    'hatchery cluster release-vmid main 10042',
  )
    .argument('<cluster>', 'name')
    .argument('<vmid>', 'number')
    .action(async (name: string, text: string) => {
      if (!/^[1-9][0-9]{2,8}$/.test(text))
        throw new HatcheryError(
          'request-invalid',
          `Unable to release "${terminalText(text)}": it is no VMID`,
          {
            hint: 'Write a number from 100 on, as hatchery cluster vmids shows it.',
          },
        );
      const vmid = Number(text);
      await answer(releaseVmid({ client: await cli.api(), path: { name, vmid } }));
      cli.show({ cluster: name, vmid }, () => `VMID ${vmid} of ${terminalText(name)} may be used again.\n`);
    });
