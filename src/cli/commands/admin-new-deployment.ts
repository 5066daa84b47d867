import type { Command } from 'commander';
import { HatcheryError } from '../../core/errors.js';
import { command, type Cli } from '../cli.js';

const PROGRAM = 'app/boot/new-deployment-program.js';

export const adminNewDeployment = (cli: Cli): Command =>
  command(
    'new-deployment',
    'Gives a copied database a life of its own: new identity, and no machine of the original in it. Reads DATABASE_URL and HATCHERY_DEPLOYMENT.',
    'hatchery admin new-deployment --yes',
  )
    .option('--yes', 'do not ask')
    .action(async ({ yes, json }: { yes?: true; json?: true }) => {
      if (!yes)
        throw new HatcheryError('request-invalid', 'Unable to begin a new deployment: nobody confirmed it', {
          hint: 'It forgets every machine in the copied database. If that is meant, add --yes.',
        });
      cli.exitCode = await cli.world.runProgram(PROGRAM, json ? ['--json'] : []);
    });
