import { writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { batchResults as readResults } from '../../client/sdk.gen.js';
import { HatcheryError } from '../../core/errors.js';
import { answer } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';
import { resultsText } from '../render/results.js';

export const batchResults = (cli: Cli): Command =>
  apiCommand(
    'results',
    'What became of every machine, and failures grouped by cause.',
    'hatchery batch results l3-info --csv results.csv',
  )
    .argument('<batch>', 'name or id')
    .option('--csv <file>', 'write a CSV file that spreadsheet programs open')
    .action(async (id: string, { csv }: { csv?: string }) => {
      const api = await cli.api();
      if (csv !== undefined) {
        // As bytes: the mark at the start of the file belongs to it.
        const bytes = await answer<unknown>(
          readResults({ client: api, path: { id }, query: { format: 'csv' }, parseAs: 'arrayBuffer' }),
        );
        await writeResults(csv, new Uint8Array(bytes as ArrayBuffer));
        cli.say(`The results are in ${csv}.`);
        if (!cli.isJson) return;
      }
      const results = await answer(readResults({ client: api, path: { id } }));
      cli.show(results, () => resultsText(results, cli.tableColumns));
    });

async function writeResults(file: string, bytes: Uint8Array): Promise<void> {
  try {
    await writeFile(file, bytes);
  } catch (cause) {
    throw new HatcheryError('request-invalid', `Unable to write the results: ${(cause as Error).message}`, {
      cause,
    });
  }
}
