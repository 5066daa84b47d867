import type { Command } from 'commander';
import { checkCluster, listClusters } from '../../client/sdk.gen.js';
import type { ClusterCheck } from '../../client/types.gen.js';
import { EXIT } from '../../core/errors.js';
import { answer } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';
import { clusterCheckText } from '../render/cluster-check.js';
import { styleFor } from '../render/style.js';

export const clusterCheck = (cli: Cli): Command =>
  apiCommand(
    'check',
    'Looks whether clusters are fit for the workflows: nodes, rights, range, templates, storages (admins). Exit code 6: something is wrong.',
    'hatchery cluster check main',
  )
    .argument('[clusters...]', 'names; all when none is given')
    .action(async (names: string[]) => {
      const api = await cli.api();
      const wanted =
        names.length > 0
          ? names
          : (await answer(listClusters({ client: api }))).items.map(({ name }) => name);
      const items: ClusterCheck[] = [];
      for (const name of wanted) items.push(await answer(checkCluster({ client: api, path: { name } })));
      const style = styleFor(cli.world.terminal.outColor);
      cli.show({ items }, () => items.map((item) => clusterCheckText(item, style)).join('\n'));
      if (items.some(({ ok }) => !ok)) cli.exitCode = EXIT.incomplete;
    });
