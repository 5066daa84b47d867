import type { RunDetail, TaskLog } from '../../client/types.gen.js';
import { terminalText } from '../../core/terminal-text.js';
import { factLines, sinceText, timeText } from './facts.js';
import { tableLines, type TableColumn } from './table.js';

type Step = RunDetail['steps'][number];
type Attempt = Step['attempts'][number] & { readonly step: string };
type Effect = RunDetail['effects'][number];

const STEPS: readonly TableColumn<Step>[] = [
  { title: 'step', value: ({ key }) => key },
  { title: 'state', value: ({ state }) => state },
  { title: 'attempts', value: ({ attemptCount }) => attemptCount, align: 'right' },
  { title: 'started', value: ({ startedAt }) => timeText(startedAt) },
  { title: 'finished', value: ({ finishedAt }) => timeText(finishedAt) },
  { title: 'code', value: ({ error }) => error?.code },
  { title: 'reason', value: ({ error }) => error?.message },
];

const ATTEMPTS: readonly TableColumn<Attempt>[] = [
  {
    title: 'attempt',
    value: ({ step, epoch, kind }) => `${kind === 'undo' ? 'undo ' : ''}${step} #${epoch}`,
  },
  { title: 'began', value: ({ startedAt }) => clockText(startedAt) },
  { title: 'took', value: ({ startedAt, endedAt }) => tookText(startedAt, endedAt), align: 'right' },
  { title: 'ended', value: ({ outcome }) => outcome ?? 'under way' },
  { title: 'worker', value: ({ by }) => by && `${by.pid} on ${by.host}` },
  { title: 'code', value: ({ error }) => error?.code },
  { title: 'reason', value: ({ error }) => error?.message },
];

const WARNINGS: readonly TableColumn<{ key: string; text: string }>[] = [
  { title: 'step', value: ({ key }) => key },
  { title: 'warning', value: ({ text }) => text },
];

const EFFECTS: readonly TableColumn<Effect>[] = [
  { title: 'made outside', value: ({ kind }) => kind },
  { title: 'system', value: ({ system }) => system },
  { title: 'key', value: ({ key }) => key },
  { title: 'state', value: ({ state }) => state },
  { title: 'shared', value: ({ shared }) => (shared ? 'yes' : 'no') },
  { title: 'id', value: ({ id }) => id, minColumns: 36 },
];

const TASKS: readonly TableColumn<{ step: string; since: string; task: string }>[] = [
  { title: 'remote task of', value: ({ step }) => step },
  { title: 'since', value: ({ since }) => timeText(since) },
  { title: 'id', value: ({ task }) => task, minColumns: 60 },
];

const DEEDS: readonly TableColumn<RunDetail['deeds'][number]>[] = [
  { title: 'who', value: ({ actor }) => actor },
  { title: 'when', value: ({ at }) => timeText(at) },
  { title: 'did', value: ({ action, what }) => (what === null ? action : `${action} ${what}`) },
  { title: 'why', value: ({ reason }) => reason },
];

/** A run for people: what it is, why it stands still and what ends that, then all that is known of it. `logs`: ends of the logs of failed tasks. */
export function runText(run: RunDetail, logs: readonly TaskLog[], columns: number | undefined): string {
  const warnings = run.steps.flatMap(({ key, attempts }) =>
    attempts.flatMap((attempt) => attempt.warnings.map((text) => ({ key, text }))),
  );
  const attempts = run.steps
    .flatMap(({ key, attempts: own }) => own.map((attempt) => ({ ...attempt, step: key })))
    .toSorted((a, b) => (a.startedAt < b.startedAt ? -1 : 1));
  return [
    ...factLines({
      run: run.id,
      machine: `${run.machine.name} (${run.machine.login})`,
      batch: run.batch.name,
      state: run.state,
      wanted: run.wanted === 'gone' ? 'everything undone' : 'a ready machine',
      created: timeText(run.createdAt),
      finished: timeText(run.finishedAt),
    }),
    ...standstill(run),
    ...line(run),
    '',
    ...tableLines(STEPS, run.steps, columns),
    ...section(ATTEMPTS, attempts, columns),
    ...unseen(run),
    ...section(WARNINGS, warnings, columns),
    ...section(TASKS, run.steps.flatMap(tasksOf), columns),
    ...logs.flatMap(logLines),
    ...section(EFFECTS, run.effects, columns),
    ...section(DEEDS, run.deeds, columns),
    ...whereLogsAre(run, attempts),
    '',
  ].join('\n');
}

const section = <Row>(
  table: readonly TableColumn<Row>[],
  rows: readonly Row[],
  columns: number | undefined,
): string[] => (rows.length === 0 ? [] : ['', ...tableLines(table, rows, columns)]);

/** Why it stands still, what that means, and each way out of it that exists for this run. */
function standstill({ id, state, wanted, error, advice, steps, effects }: RunDetail): string[] {
  if (error === null) return [];
  const parked = steps.find((step) => step.state === 'parked');
  const isUndo = wanted === 'gone';
  const stuck = steps.find((step) => step.state === 'undo-parked');
  const open = effects.filter(
    (effect) => effect.step === stuck?.key && effect.state !== 'undone' && effect.state !== 'released',
  );
  // The newest is undone first.
  const effect = open.at(-1)?.id;
  const ways = [
    ...(advice === null ? [] : [advice.next]),
    ...(state === 'parked' && parked !== undefined && !isUndo
      ? [`hatchery run skip ${id} ${parked.key} --reason TEXT`]
      : []),
    ...(state === 'parked' && isUndo && effect !== undefined
      ? [
          `hatchery run adopt ${id} ${effect} --reason TEXT`,
          `hatchery run release ${id} ${effect} --reason TEXT`,
        ]
      : []),
    ...(state === 'parked' && !isUndo ? [`hatchery run cancel ${id}`] : []),
  ];
  return [
    '',
    terminalText(`${error.message} (${error.code})`),
    ...(advice === null ? [] : [terminalText(advice.explanation), terminalText(advice.advice)]),
    ...(error.hint === undefined ? [] : [terminalText(error.hint)]),
    ...ways.map((way) => `    ${terminalText(way)}`),
  ];
}

/** The slots that its steps hold, and the line in which they stand. */
function line({ steps }: RunDetail): string[] {
  const held = steps.flatMap(({ key, slots }) =>
    slots.map(({ resource, number, since }) => `${key} holds ${resource} #${number} for ${sinceText(since)}`),
  );
  const waiting = steps.flatMap(({ key, waitsFor }) => {
    if (waitsFor === null) return [];
    if (waitsFor.what === 'group') return [`${key} waits for others that are done together with it`];
    return [
      `${key} waits for a slot of ${waitsFor.resources.join(' and ')}: ${waitsFor.ahead ?? 0} of its owner before it, ${waitsFor.inLine ?? 0} in line`,
    ];
  });
  const all = [...held, ...waiting].map(terminalText);
  return all.length === 0 ? [] : ['', ...all];
}

/** Of a run with many attempts only the newest of each step are shown. */
function unseen({ id, steps }: RunDetail): string[] {
  const ended = (step: Step): number => step.attempts.filter(({ endedAt }) => endedAt !== null).length;
  const hidden = steps.reduce((sum, step) => sum + step.attemptCount - ended(step), 0);
  return hidden === 0 ? [] : [`and ${hidden} earlier ones: GET /api/v1/runs/${id}/attempts`];
}

const tasksOf = ({ key, remote, attempts }: Step): { step: string; since: string; task: string }[] => [
  ...remote.map(({ since, task }) => ({ step: key, since, task: task ?? 'sent, and its id is not known' })),
  ...attempts.flatMap(({ task, startedAt }) =>
    task === null ? [] : [{ step: `${key}, failed`, since: startedAt, task }],
  ),
];

const logLines = ({ task, lines, total }: TaskLog): string[] => [
  '',
  terminalText(`log of ${task} (${lines.length} of ${total} lines)`),
  ...lines.map((text) => `    ${terminalText(text)}`),
];

function whereLogsAre({ id }: RunDetail, attempts: readonly Attempt[]): string[] {
  const places = [...new Set(attempts.flatMap(({ by }) => (by === null ? [] : [`${by.pid} on ${by.host}`])))];
  if (places.length === 0) return [];
  return ['', terminalText(`logs: standard error of ${places.join(', ')}: lines with "run":"${id}"`)];
}

/** `10:42:07`, of the clock of this computer. */
function clockText(iso: string): string {
  const at = new Date(iso);
  return [at.getHours(), at.getMinutes(), at.getSeconds()]
    .map((part) => String(part).padStart(2, '0'))
    .join(':');
}

function tookText(from: string, to: string | null): string | undefined {
  if (to === null) return undefined;
  const seconds = (Date.parse(to) - Date.parse(from)) / 1000;
  return seconds < 60 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds / 60)} min`;
}
