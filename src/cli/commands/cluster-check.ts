import type { Command } from 'commander';
import { checkCluster, listClusters } from '../../client/sdk.gen.js';
import type { ClusterCheck } from '../../client/types.gen.js';
import { EXIT } from '../../core/errors.js';
import { terminalText } from '../../core/terminal-text.js';
import { answer } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';

export const clusterCheck = (cli: Cli): Command =>
  apiCommand(
    'check',
    'Looks at reachability, rights, pool and VMID range of clusters (admins). Exit code 6: something is wrong.',
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
      cli.show({ items }, () => items.map(checkText).join('\n'));
      if (items.some(({ ok }) => !ok)) cli.exitCode = EXIT.incomplete;
    });

function checkText({ cluster, ok, findings }: ClusterCheck): string {
  const lines = findings.flatMap((finding) => [
    terminalText(`  ${finding.ok ? 'ok   ' : 'WRONG'} ${finding.subject}: ${finding.detail}`),
    ...(finding.remedy === undefined ? [] : [terminalText(`        ${finding.remedy}`)]),
  ]);
  return `${[`${terminalText(cluster)}: ${ok ? 'in order' : 'not in order'}`, ...lines].join('\n')}\n`;
}
