import type { Command } from 'commander';
import { retryBatch } from '../../client/sdk.gen.js';
import type { RetriedBatch } from '../../client/types.gen.js';
import { HatcheryError } from '../../core/errors.js';
import { answer } from '../api.js';
import { showOutcome } from '../batch-outcome.js';
import { apiCommand, countText, type Cli } from '../cli.js';
import { watchBatch } from '../watch-batch.js';

interface Options {
  readonly parked?: true;
  readonly failed?: true;
  readonly code?: string;
  readonly wait?: true;
}

export const batchRetry = (cli: Cli): Command =>
  apiCommand(
    'retry',
    'Tries again: parked machines go on where they stood, failed ones (which were undone) are made anew.',
    'hatchery batch retry l3-info --failed --wait',
  )
    .argument('<batch>', 'name or id')
    .option('--parked', 'only the parked ones')
    .option('--failed', 'only the failed ones')
    .option('--code <code>', 'only those stopped by this error')
    .option('--wait', 'watch until everything has come to rest, then show the results')
    .action(async (id: string, { parked, failed, code, wait }: Options) => {
      if (parked && failed)
        throw new HatcheryError(
          'request-invalid',
          'Unable to retry: --parked and --failed exclude each other',
          {
            hint: 'Leave both out to try all of them again.',
          },
        );
      const which = parked ? 'parked' : failed ? 'failed' : 'all';
      const api = await cli.api();
      const body = { which, ...(code !== undefined && { code }) } as const;
      const retried = await answer(retryBatch({ client: api, path: { id }, body }));
      cli.say(retriedText(retried));
      if (wait) {
        if ((await watchBatch(cli, api, retried.batch, 'ready')) !== undefined)
          await showOutcome(cli, api, retried.batch.id);
        return;
      }
      cli.show(retried, () => '');
      cli.say(`Watch with: hatchery batch watch ${retried.batch.name}`);
    });

/** `3 machines go on where they stood, 1 machine is made anew.` */
export function retriedText({ resumed, replaced }: Pick<RetriedBatch, 'resumed' | 'replaced'>): string {
  const parts = [
    ...(resumed > 0 ? [`${countText(resumed, 'machine')} ${resumed === 1 ? 'goes' : 'go'} on`] : []),
    ...(replaced > 0 ? [`${countText(replaced, 'machine')} ${replaced === 1 ? 'is' : 'are'} made anew`] : []),
  ];
  return `${parts.length === 0 ? 'Nothing is left to retry: somebody was faster' : parts.join(', ')}.`;
}
