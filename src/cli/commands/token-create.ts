import { InvalidArgumentError, type Command } from 'commander';
import { createToken } from '../../client/sdk.gen.js';
import { answer } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';

export const tokenCreate = (cli: Cli): Command =>
  apiCommand(
    'create',
    'Makes a token for scripts and prints it once.',
    'hatchery token create timetable --expires-in-days 90',
  )
    .argument('<name>', 'what it is for')
    .option('--expires-in-days <days>', 'when it ends by itself', wholeNumber)
    .action(async (name: string, { expiresInDays }: { expiresInDays?: number }) => {
      const body = { name, ...(expiresInDays === undefined ? {} : { expiresInDays }) };
      const created = await answer(createToken({ client: await cli.api(), body }));
      cli.show(created, () => `${created.token}\n`);
      cli.say('Keep it: it is shown only now. End it with: hatchery token revoke ' + created.id);
    });

function wholeNumber(text: string): number {
  if (!/^[0-9]{1,4}$/.test(text)) throw new InvalidArgumentError('Write a whole number of days.');
  return Number(text);
}
