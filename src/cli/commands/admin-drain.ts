import type { Command } from 'commander';
import { drainWorker } from '../../client/sdk.gen.js';
import { answer } from '../api.js';
import { apiCommand, idOf, type Cli } from '../cli.js';

export const adminDrain = (cli: Cli): Command =>
  apiCommand(
    'drain',
    'Asks a worker to take no new step and to end when those that it has are over, its process with it unless that serves the API too (admins).',
    'hatchery admin drain 01994a3e-0000-7000-8000-000000000001',
  )
    .argument('<worker>', 'id, as hatchery admin workers gives it')
    .action(async (text: string) => {
      const id = idOf('worker', text);
      await answer(drainWorker({ client: await cli.api(), path: { id } }));
      cli.show({ worker: id }, () => 'It takes no new step.\n');
      cli.say('See how much it still holds with: hatchery admin workers');
    });
