import type { Command } from 'commander';
import type { Client } from '../../client/client/index.js';
import { retryRun } from '../../client/sdk.gen.js';
import type { Run } from '../../client/types.gen.js';
import { HatcheryError } from '../../core/errors.js';
import { terminalText } from '../../core/terminal-text.js';
import { answer } from '../api.js';
import { apiCommand, idOf, type Cli } from '../cli.js';
import { findRuns } from '../find-runs.js';

export const runRetry = (cli: Cli): Command =>
  apiCommand(
    'retry',
    'Makes the failed or parked steps of runs due again: of the ids given, or of a batch.',
    'hatchery run retry --batch l3-info --code address-unknown',
  )
    .argument('[runs...]', 'ids')
    .option('--batch <batch>', 'all parked runs of this batch (name or id)')
    .option('--code <code>', 'of these only the runs stopped by this error')
    .action(async (ids: string[], { batch, code }: { batch?: string; code?: string }) => {
      if (ids.length > 0 === (batch !== undefined) || (code !== undefined && batch === undefined))
        throw new HatcheryError('request-invalid', 'Unable to retry: give either ids of runs or --batch', {
          hint: 'hatchery run retry ID, or hatchery run retry --batch NAME --code CODE',
        });
      for (const id of ids) idOf('run', id);
      const api = await cli.api();
      const items =
        batch === undefined
          ? await retryAll(api, ids)
          : await retryParked(api, await parkedRuns(api, batch, code));
      cli.show({ items }, () =>
        items.length === 0
          ? `Nothing to retry: no run of ${terminalText(batch ?? '')} is parked${code === undefined ? '' : ` for ${terminalText(code)}`}.\n`
          : `${items.length} ${items.length === 1 ? 'run goes' : 'runs go'} on.\n`,
      );
      const [first] = items;
      if (first) cli.say(`Watch with: hatchery batch watch ${first.batch.name}`);
    });

async function retryAll(api: Client, ids: readonly string[]): Promise<Run[]> {
  const items: Run[] = [];
  for (const id of ids) items.push(await answer(retryRun({ client: api, path: { id } })));
  return items;
}

/** Somebody else may have retried or deleted one of them meanwhile. */
async function retryParked(api: Client, ids: readonly string[]): Promise<Run[]> {
  const items: Run[] = [];
  for (const id of ids) {
    try {
      items.push(...(await retryAll(api, [id])));
    } catch (error) {
      if (!(error instanceof HatcheryError) || error.code !== 'not-applicable') throw error;
    }
  }
  return items;
}

async function parkedRuns(api: Client, batch: string, code: string | undefined): Promise<string[]> {
  const runs = await findRuns(api, { batch, code, state: 'parked' });
  return runs.map(({ id }) => id);
}
