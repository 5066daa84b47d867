import { Option, type Command } from 'commander';
import { createUser } from '../../client/sdk.gen.js';
import { answer } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';
import { newPassword } from '../password.js';

export const userCreate = (cli: Cli): Command =>
  apiCommand(
    'create',
    'Makes an account (admins). Asks for its password.',
    'hatchery user create jane.doe --role teacher',
  )
    .argument('<login>', 'lower-case letters, digits, dots, hyphens')
    .addOption(
      new Option('--role <role>', 'what the person may do').choices(['admin', 'teacher']).default('teacher'),
    )
    .option('--password-file <file>', 'read the password from a file; - reads standard input')
    .action(async (login: string, options: { role: 'admin' | 'teacher'; passwordFile?: string }) => {
      const api = await cli.api();
      const password = await newPassword(cli.world.terminal, options.passwordFile);
      const user = await answer(createUser({ client: api, body: { login, password, role: options.role } }));
      cli.show(user, () => `${user.login} may sign in as ${user.role}.\n`);
    });
