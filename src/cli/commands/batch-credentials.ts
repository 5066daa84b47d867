import { open, rm } from 'node:fs/promises';
import type { Command } from 'commander';
import { batchCredentials as readCredentials } from '../../client/sdk.gen.js';
import type { Credentials } from '../../client/types.gen.js';
import { HatcheryError } from '../../core/errors.js';
import { csvCell } from '../../core/results.js';
import { answer } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';
import { tableText, type TableColumn } from '../render/table.js';

export const batchCredentials = (cli: Cli): Command =>
  apiCommand(
    'credentials',
    'The generated passwords of a batch. They are shown once, and that is recorded.',
    'hatchery batch credentials l3-info --csv passwords.csv',
  )
    .argument('<batch>', 'name or id')
    .option('--csv <file>', 'write them to a new file that only you can read')
    .action(async (id: string, { csv }: { csv?: string }) => {
      const api = await cli.api();
      // They cannot be asked for twice: the file has to be there first.
      const file = csv === undefined ? undefined : await newFile(csv);
      let credentials: Credentials;
      try {
        credentials = await answer(readCredentials({ client: api, path: { id } }));
        await file?.write(credentialsCsv(credentials));
      } catch (error) {
        if (csv !== undefined) await rm(csv, { force: true });
        throw error;
      } finally {
        await file?.close();
      }
      if (csv !== undefined) cli.say(`The passwords are in ${csv}.`);
      if (csv === undefined || cli.isJson)
        cli.show(credentials, () => tableText(COLUMNS, credentials.items, undefined));
    });

const COLUMNS: readonly TableColumn<Credentials['items'][number]>[] = [
  { title: 'login', value: ({ login }) => login },
  { title: 'machine', value: ({ machine }) => machine },
  { title: 'user', value: ({ user }) => user },
  { title: 'password', value: ({ password }) => password },
];

function credentialsCsv({ items }: Credentials): string {
  const rows = items.map((item) => COLUMNS.map(({ value }) => csvCell(value(item) ?? undefined)).join(','));
  return `\u{feff}${[COLUMNS.map(({ title }) => title).join(','), ...rows].join('\r\n')}\r\n`;
}

async function newFile(path: string) {
  try {
    return await open(path, 'wx', 0o600);
  } catch (cause) {
    const isThere = (cause as NodeJS.ErrnoException).code === 'EEXIST';
    throw new HatcheryError(
      'request-invalid',
      `Unable to write the passwords: ${isThere ? `${path} is already there` : (cause as Error).message}`,
      { hint: 'Name a new file; nothing was read from the service.', cause },
    );
  }
}
