import type { Command } from 'commander';
import { getBatch } from '../../client/sdk.gen.js';
import { answer } from '../api.js';
import { showDeletion, showOutcome } from '../batch-outcome.js';
import { apiCommand, type Cli } from '../cli.js';
import { watchBatch } from '../watch-batch.js';

export const batchWatch = (cli: Cli): Command =>
  apiCommand(
    'watch',
    'Shows how a batch comes on, then its results. Ctrl-C stops watching, not the batch.',
    'hatchery batch watch l3-info',
  )
    .argument('<batch>', 'name or id')
    .action(async (id: string) => {
      const api = await cli.api();
      const batch = await answer(getBatch({ client: api, path: { id } }));
      const isGoing = batch.state === 'deleting' || batch.state === 'deleted';
      const state = await watchBatch(cli, api, batch, isGoing ? 'deleted' : 'ready');
      if (state === undefined) return;
      await (isGoing ? showDeletion : showOutcome)(cli, api, batch.id);
    });
