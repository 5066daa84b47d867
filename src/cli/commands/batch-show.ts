import type { Command } from 'commander';
import { batchResults, getBatch } from '../../client/sdk.gen.js';
import { answer } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';
import { factLines, timeText } from '../render/facts.js';
import { readyText } from '../render/ready.js';
import { summaryLines } from '../render/results.js';

export const batchShow = (cli: Cli): Command =>
  apiCommand(
    'show',
    'Where a batch stands, and what to do about its failures.',
    'hatchery batch show l3-info',
  )
    .argument('<batch>', 'name or id')
    .action(async (id: string) => {
      const api = await cli.api();
      const batch = await answer(getBatch({ client: api, path: { id } }));
      const { counts, causes } = await answer(batchResults({ client: api, path: { id: batch.id } }));
      cli.show({ ...batch, causes }, () =>
        [
          ...factLines({
            batch: batch.name,
            id: batch.id,
            state: batch.state,
            owner: batch.owner,
            blueprint: `${batch.blueprint.name} version ${batch.blueprint.version}`,
            cluster: batch.cluster,
            expected: readyText(batch),
            created: timeText(batch.createdAt),
            'at rest since': timeText(batch.settledAt),
            deleted: timeText(batch.deletedAt),
          }),
          '',
          ...summaryLines({ batch: batch.name, counts, causes }),
          '',
        ].join('\n'),
      );
    });
