import type { Command } from 'commander';
import { vendorData } from '../../client/sdk.gen.js';
import { answer } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';

export const clusterVendorData = (cli: Cli): Command =>
  apiCommand(
    'vendor-data',
    'Prints the cloud-init vendor data with which new machines phone home, for a snippet on each node (admins).',
    'hatchery cluster vendor-data main',
  )
    .argument('<cluster>', 'name')
    .action(async (name: string) => {
      const found = await answer(vendorData({ client: await cli.api(), path: { name } }));
      cli.show(found, () => found.text);
    });
