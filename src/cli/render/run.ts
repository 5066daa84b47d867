import type { RunDetail } from '../../client/types.gen.js';
import { factLines, timeText } from './facts.js';
import { tableLines, type TableColumn } from './table.js';

const STEPS: readonly TableColumn<RunDetail['steps'][number]>[] = [
  { title: 'step', value: ({ key }) => key },
  { title: 'uses', value: ({ uses }) => uses },
  { title: 'state', value: ({ state }) => state },
  { title: 'tries', value: ({ tries }) => tries, align: 'right' },
  { title: 'started', value: ({ startedAt }) => timeText(startedAt) },
  { title: 'finished', value: ({ finishedAt }) => timeText(finishedAt) },
  { title: 'code', value: ({ error }) => error?.code },
  { title: 'reason', value: ({ error }) => error?.message },
];

const WARNINGS: readonly TableColumn<{ key: string; text: string }>[] = [
  { title: 'step', value: ({ key }) => key },
  { title: 'warning', value: ({ text }) => text },
];

const EFFECTS: readonly TableColumn<RunDetail['effects'][number]>[] = [
  { title: 'made outside', value: ({ kind }) => kind },
  { title: 'system', value: ({ system }) => system },
  { title: 'key', value: ({ key }) => key },
  { title: 'step', value: ({ step }) => step },
  { title: 'state', value: ({ state }) => state },
  { title: 'shared', value: ({ shared }) => (shared ? 'yes' : 'no') },
];

/** A run for people. */
export function runText(run: RunDetail, columns: number | undefined): string {
  const { error } = run;
  const warnings = run.steps.flatMap(({ key, attempts }) =>
    attempts.flatMap((attempt) => attempt.warnings.map((text) => ({ key, text }))),
  );
  return [
    ...factLines({
      run: run.id,
      machine: `${run.machine.name} (${run.machine.login})`,
      batch: run.batch.name,
      state: run.state,
      wanted: run.wanted,
      created: timeText(run.createdAt),
      finished: timeText(run.finishedAt),
      error: error && `${error.message} (${error.code})`,
      hint: error?.hint,
      next: run.state === 'parked' ? `hatchery run retry ${run.id}` : undefined,
    }),
    '',
    ...tableLines(STEPS, run.steps, columns),
    ...(warnings.length === 0 ? [] : ['', ...tableLines(WARNINGS, warnings, columns)]),
    ...(run.effects.length === 0 ? [] : ['', ...tableLines(EFFECTS, run.effects, columns)]),
    '',
  ].join('\n');
}
