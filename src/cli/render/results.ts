import type { BatchResults } from '../../client/types.gen.js';
import { terminalText } from '../../core/terminal-text.js';
import { tableLines, type TableColumn } from './table.js';

type Item = BatchResults['items'][number];

const COLUMNS: readonly (TableColumn<Item> & { readonly isWide?: boolean })[] = [
  { title: 'login', value: (item) => item.login },
  { title: 'lastName', value: (item) => item.lastName, isWide: true },
  { title: 'firstName', value: (item) => item.firstName, isWide: true },
  { title: 'group', value: (item) => item.group, isWide: true },
  { title: 'machine', value: (item) => item.machine },
  { title: 'vmid', value: (item) => item.vmid, align: 'right' },
  { title: 'node', value: (item) => item.node },
  { title: 'address', value: (item) => item.address, minColumns: 15 },
  { title: 'state', value: (item) => item.state },
  { title: 'code', value: (item) => item.code },
  { title: 'link', value: (item) => item.link, isWide: true },
];

/** Below this width the table keeps to what names a machine and its state. */
const WIDE_SCREEN = 120;

/** One line per machine, without columns that are empty everywhere, then what failed by cause. */
export function resultsText(results: BatchResults, columns: number | undefined): string {
  const { items } = results;
  const isWide = columns === undefined || columns >= WIDE_SCREEN;
  const shown = COLUMNS.filter(
    (column) => (isWide || column.isWide !== true) && items.some((item) => (column.value(item) ?? '') !== ''),
  );
  return [...tableLines(shown, items, columns), '', ...summaryLines(results), ''].join('\n');
}

/** How many are as wanted, and for each cause of failure how many, why and the command that goes on. */
export function summaryLines({
  batch,
  counts,
  causes,
}: Pick<BatchResults, 'batch' | 'counts' | 'causes'>): string[] {
  const others = Object.entries(counts).filter(
    ([state, count]) => state !== 'total' && state !== 'ready' && count > 0,
  );
  return [
    `${terminalText(batch)}: ${[`${counts.ready} of ${counts.total} ready`, ...others.map(([state, count]) => `${count} ${state}`)].join(', ')}`,
    ...causes.flatMap(({ code, count, sentence, advice, next }) => [
      `${count} x ${terminalText(sentence)} (${terminalText(code)})`,
      `    ${terminalText(advice)}`,
      `    ${terminalText(next)}`,
    ]),
  ];
}
