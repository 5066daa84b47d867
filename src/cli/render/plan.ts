import type { BatchPlan } from '../../client/types.gen.js';
import { terminalText } from '../../core/terminal-text.js';
import { readyText } from './ready.js';
import { tableLines, type TableColumn } from './table.js';

type Item = BatchPlan['items'][number];
type Capacity = BatchPlan['capacity'][number];

const ITEMS: readonly TableColumn<Item>[] = [
  { title: 'row', value: (item) => item.row, align: 'right' },
  { title: 'login', value: (item) => item.login },
  { title: 'machine', value: (item) => item.machine },
  { title: 'vmid', value: (item) => item.vmid, align: 'right' },
  { title: 'node', value: (item) => item.node },
  { title: 'storage', value: (item) => item.storage },
  { title: 'verdict', value: (item) => item.verdict },
  { title: 'reason', value: (item) => item.reason },
];

const CAPACITY: readonly TableColumn<Capacity>[] = [
  { title: 'on', value: ({ kind, name }) => `${kind} ${name}` },
  { title: 'planned', value: ({ plannedMachines }) => plannedMachines, align: 'right' },
  { title: 'fits', value: ({ fits }) => fits, align: 'right' },
  { title: 'free', value: freeOf, align: 'right' },
  { title: 'note', value: ({ note }) => note },
];

/** The plan of a batch: every machine, the room that is there, and what create would say. */
export function planText(plan: BatchPlan, columns: number | undefined): string {
  const { items, capacity, vmids, counts, notes, refusal, estimateSeconds, expectedReadyAt } = plan;
  const shown = ITEMS.filter((column) => items.some((item) => (column.value(item) ?? '') !== ''));
  const verdicts = [
    `${counts.ok} ok`,
    ...(counts.conflict > 0 ? [`${counts.conflict} in conflict`] : []),
    ...(counts.noCapacity > 0 ? [`${counts.noCapacity} without room`] : []),
  ];
  return [
    ...tableLines(shown, items, columns),
    '',
    ...tableLines(CAPACITY, capacity, columns),
    '',
    `VMIDs: ${vmids.free} of ${vmids.total} free, ${vmids.used} used, ${vmids.resting} resting`,
    `${counts.rows} rows: ${verdicts.join(', ')}. VMIDs are provisional, nothing is reserved.`,
    ...(counts.ok === 0
      ? []
      : [
          `Created now: ${readyText({ expectedReadyAt, remainingSeconds: estimateSeconds }) ?? 'nothing is known yet about how long it takes'}.`,
        ]),
    ...notes.map((note) => terminalText(note)),
    ...(refusal === undefined
      ? []
      : [
          `create would refuse it: ${terminalText(refusal.detail)} (${terminalText(refusal.code)})`,
          terminalText(refusal.hint),
        ]),
    '',
  ].join('\n');
}

function freeOf({ freeMemoryMiB, freeGiB }: Capacity): string {
  const memory = freeMemoryMiB === undefined ? [] : [`${(freeMemoryMiB / 1024).toFixed(1)} GiB memory`];
  const disk = freeGiB === undefined ? [] : [`${Math.floor(freeGiB)} GiB`];
  return [...memory, ...disk].join(', ');
}
