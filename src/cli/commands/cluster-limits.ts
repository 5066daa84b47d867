import type { Command } from 'commander';
import { listLimits, setLimits } from '../../client/sdk.gen.js';
import type { Limit } from '../../client/types.gen.js';
import { HatcheryError } from '../../core/errors.js';
import { terminalText } from '../../core/terminal-text.js';
import { answer } from '../api.js';
import { apiCommand, type Cli } from '../cli.js';
import { timeText } from '../render/facts.js';
import { tableText, type TableColumn } from '../render/table.js';

export const clusterLimits = (cli: Cli): Command =>
  apiCommand(
    'limits',
    'How much of a cluster is used at once, and why; sets it with RESOURCE=N or RESOURCE=auto (admins).',
    'hatchery cluster limits main clones@storage:main/ceph=6',
  )
    .argument('<cluster>', 'name')
    .argument('[limits...]', 'RESOURCE=N fixes the slots of a resource, RESOURCE=auto lets it go')
    .action(async (name: string, texts: readonly string[]) => {
      const limits = Object.fromEntries(texts.map(parse));
      const client = await cli.api();
      const { items } = await answer(
        texts.length === 0
          ? listLimits({ client, path: { name } })
          : setLimits({ client, path: { name }, body: { limits } }),
      );
      cli.show({ items }, () =>
        items.length === 0
          ? 'No step has asked for a slot yet.\n'
          : tableText(COLUMNS, items, cli.tableColumns),
      );
    });

function parse(text: string): [string, number | 'auto'] {
  const [, resource, limit] = /^(\S+)=(auto|[1-9][0-9]{0,3})$/.exec(text) ?? [];
  if (resource !== undefined && limit !== undefined)
    return [resource, limit === 'auto' ? 'auto' : Number(limit)];
  throw new HatcheryError('request-invalid', `Unable to read the limit "${terminalText(text)}"`, {
    hint: 'Write RESOURCE=N with a number from 1 to 1000, or RESOURCE=auto.',
  });
}

const COLUMNS: readonly TableColumn<Limit>[] = [
  { title: 'resource', value: ({ resource }) => resource, minColumns: 24 },
  { title: 'limit', value: ({ limit }) => limit, align: 'right' },
  { title: 'in use', value: ({ inUse }) => inUse, align: 'right' },
  { title: 'waiting', value: ({ waiting }) => waiting, align: 'right' },
  { title: 'configured', value: ({ configured }) => configured, align: 'right' },
  { title: 'bounds', value: ({ bounds: { min, max } }) => (min === max ? '' : `${min}-${max}`) },
  { title: 'rule', value: ({ rule }) => rule },
  {
    title: 'lock wait',
    value: ({ lockWait }) => lockWait && `${(lockWait.meanMs / 1000).toFixed(1)} s (${lockWait.clones})`,
  },
  { title: 'changed', value: ({ changedAt }) => timeText(changedAt) },
  { title: 'why', value: ({ why }) => why },
];
