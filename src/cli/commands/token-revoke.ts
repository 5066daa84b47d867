import type { Command } from 'commander';
import { revokeToken } from '../../client/sdk.gen.js';
import { answer } from '../api.js';
import { apiCommand, idOf, type Cli } from '../cli.js';

export const tokenRevoke = (cli: Cli): Command =>
  apiCommand(
    'revoke',
    'Ends one of your tokens at once.',
    'hatchery token revoke 01994a3e-0000-7000-8000-000000000001',
  )
    .argument('<token>', 'id, as token list shows it')
    .action(async (id: string) => {
      await answer(revokeToken({ client: await cli.api(), path: { id: idOf('token', id) } }));
      cli.show({ id }, () => 'The token has ended.\n');
    });
