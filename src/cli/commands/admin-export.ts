import { open } from 'node:fs/promises';
import type { Command } from 'commander';
import { exportAll } from '../../client/sdk.gen.js';
import { HatcheryError } from '../../core/errors.js';
import { answer } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';

export const adminExport = (cli: Cli): Command =>
  apiCommand(
    'export',
    'Machines, runs, effects and reservations of one moment, one JSON object per line; with --json one list (admins).',
    'hatchery admin export --out export.ndjson',
  )
    .option('--out <file>', 'where it goes (else it is printed)')
    .action(async ({ out }: { out?: string }) => {
      const client = await cli.api();
      const body = (await answer(
        exportAll({ client, parseAs: 'stream' }),
      )) as unknown as ReadableStream<Uint8Array>;
      const lines = wholeLines(body);
      if (out === undefined) {
        for await (const text of asked(cli, lines)) cli.world.terminal.out(text);
        return;
      }
      const file = await open(out, 'w', 0o600);
      try {
        for await (const text of asked(cli, lines)) await file.write(text);
      } finally {
        await file.close();
      }
    });

/** In the form that was asked for. */
async function* asked(cli: Cli, lines: AsyncIterable<string>): AsyncIterable<string> {
  if (!cli.isJson) {
    for await (const line of lines) yield `${line}\n`;
    return;
  }
  let before = '[\n';
  for await (const line of lines) {
    yield `${before}${line}`;
    before = ',\n';
  }
  yield '\n]\n';
}

/** The lines of an export. Error: `service-unreachable` when it ends before its last row. */
async function* wholeLines(body: ReadableStream<Uint8Array>): AsyncIterable<string> {
  let rest = '';
  let last = '';
  try {
    for await (const text of body.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) yield (last = line);
    }
  } catch (cause) {
    throw cutOff(cause);
  }
  if ((JSON.parse(last || '{}') as { row?: string }).row !== 'end') throw cutOff();
}

const cutOff = (cause?: unknown): HatcheryError =>
  new HatcheryError(
    'service-unreachable',
    'Unable to export everything: the service broke off in the middle',
    {
      hint: 'Run it again; what was written so far is not whole.',
      cause,
    },
  );
