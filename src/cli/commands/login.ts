import { chmod, mkdir, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Command } from 'commander';
import { login as signIn } from '../../client/sdk.gen.js';
import { HatcheryError } from '../../core/errors.js';
import { findAccess, savedLoginFile } from '../access.js';
import { answer, apiClient } from '../api.js';
import { command, type Cli } from '../cli.js';
import { readPassword } from '../password.js';
import { timeText } from '../render/facts.js';

export const login = (cli: Cli): Command =>
  command(
    'login',
    'Signs in and keeps the token for the next commands. Asks for what is not given.',
    'hatchery login --url https://hatchery.example.org --login jane.doe',
  )
    .option('--url <url>', 'address of the service')
    .option('--login <login>', 'name of the account')
    .option('--password-file <file>', 'read the password from a file; - reads standard input')
    .action(async (options: { login?: string; passwordFile?: string }) => {
      const { terminal } = cli.world;
      const { url } = await cli.access();
      const name = options.login ?? (await askLogin(cli));
      const password = await readPassword(terminal, options.passwordFile);
      const client = apiClient(url, undefined, cli.world.fetch);
      const { token, expiresAt, user } = await answer(signIn({ client, body: { login: name, password } }));
      const file = savedLoginFile(cli.world.home);
      await save(file, { url, token });
      cli.show(
        { url, user, expiresAt, file },
        () => `Signed in at ${url} as ${user.login} (${user.role}) until ${timeText(expiresAt)}.\n`,
      );
      const now = await findAccess({}, cli.world);
      if (now.token !== token)
        cli.say(`Note: commands use ${now.url} (${now.from}) as long as that is there.`);
    });

async function askLogin(cli: Cli): Promise<string> {
  if (cli.world.terminal.canAsk) return (await cli.world.terminal.ask('Login: ')).trim();
  throw new HatcheryError('request-invalid', 'Unable to ask for the login: this is no terminal', {
    hint: 'Give --login NAME.',
  });
}

/** The old file stays whole until the new one is; only its owner can read either. */
async function save(file: string, content: { url: string; token: string }): Promise<void> {
  try {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    const draft = `${file}.${process.pid}`;
    await writeFile(draft, `${JSON.stringify(content)}\n`, { mode: 0o600 });
    await chmod(draft, 0o600);
    await rename(draft, file);
  } catch (cause) {
    throw new HatcheryError('settings-invalid', `Unable to keep the login: ${(cause as Error).message}`, {
      cause,
    });
  }
}
