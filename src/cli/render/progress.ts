import type { MachineState } from '../../core/states.js';
import { padText, terminalText, textWidth, truncateText } from '../../core/terminal-text.js';

/** One machine that does not go on by itself. */
export interface ShownFailure {
  readonly login: string;
  readonly machine: string;
  readonly code: string;
  readonly reason: string;
}

export interface BatchProgress {
  readonly batch: string;
  /** The state in which a machine counts as finished: `ready`, or `deleted` while a batch is removed. */
  readonly goal: 'ready' | 'deleted';
  readonly counts: { readonly total: number } & Partial<Record<MachineState, number>>;
  /** Mean progress of all machines, 0 to 100; default the share that is finished. */
  readonly percent?: number;
  readonly elapsedSeconds: number;
  /** When all are ready, as people read it. */
  readonly readyText?: string;
  readonly failures: readonly ShownFailure[];
}

export interface Screen {
  readonly columns: number;
  /** Failures shown below the bar; the rest is counted. */
  readonly maxFailures?: number;
  /** False for terminals without UTF-8. */
  readonly isUtf8?: boolean;
}

/** One bar for a batch, and below it what fails; no line is wider than the screen. */
export function progressLines(progress: BatchProgress, screen: Screen): string[] {
  const head = terminalText(progress.batch);
  const facts = describe(progress).join(screen.isUtf8 === false ? ', ' : ' · ');
  const room = screen.columns - textWidth(head) - textWidth(facts) - 6;
  const bar = room < 8 ? ' ' : ` ${drawBar(percentOf(progress), Math.min(room, 30), screen.isUtf8 ?? true)} `;
  const shown = progress.failures.slice(0, screen.maxFailures ?? 5);
  const hidden = progress.failures.length - shown.length;
  return [
    `${head}${bar}${facts}`,
    ...shown.map((failure) => `  ${failureText(failure)}`),
    ...(hidden > 0 ? [`  and ${hidden} more`] : []),
  ].map((line) => truncateText(line, screen.columns));
}

/** What a log or a pipe gets instead of a bar: new lines since `before`, at each tenth that is finished, for each new failure, and at the end. */
export function plainProgress(before: BatchProgress | undefined, now: BatchProgress): string[] {
  const known = new Set(before?.failures.map((failure) => `${failure.machine} ${failure.code}`));
  const failures = now.failures
    .filter((failure) => !known.has(`${failure.machine} ${failure.code}`))
    .map((failure) => `${terminalText(now.batch)}: ${failureText(failure)}`);
  const isNews = before === undefined || tenthOf(before) !== tenthOf(now);
  return [...failures, ...(isNews ? [`${terminalText(now.batch)}: ${describe(now).join(', ')}`] : [])];
}

/** The bytes that draw `lines` over the last frame of `previousLines` lines. */
export function nextFrame(previousLines: number, lines: readonly string[]): string {
  const back = previousLines === 0 ? '' : `\u001b[${previousLines}A\u001b[J`;
  return `${back}${lines.map((line) => `${line}\n`).join('')}`;
}

/** Seconds as people read them: `48 s`, `3:05`, `1:02:00`. */
export function clockText(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const [first = 0, ...rest] = parts[0] === 0 ? parts.slice(1) : parts;
  return [String(first), ...rest.map((part) => String(part).padStart(2, '0'))].join(':');
}

function describe(progress: BatchProgress): string[] {
  const { counts, goal } = progress;
  const finished = counts[goal] ?? 0;
  const stuck = (counts.parked ?? 0) + (counts.failed ?? 0);
  const isOver = finished + stuck >= counts.total;
  return [
    `${finished}/${counts.total} ${goal}`,
    `${Math.floor(percentOf(progress))} %`,
    ...(stuck > 0 ? [`${stuck} not ${goal}`] : []),
    isOver || progress.readyText === undefined
      ? `after ${clockText(progress.elapsedSeconds)}`
      : progress.readyText,
  ];
}

function percentOf({ percent, counts, goal }: BatchProgress): number {
  const share = counts.total === 0 ? 100 : ((counts[goal] ?? 0) / counts.total) * 100;
  return Math.min(100, Math.max(0, percent ?? share));
}

const tenthOf = ({ counts, goal }: BatchProgress): number =>
  Math.floor(((counts[goal] ?? 0) * 10) / Math.max(1, counts.total));

function drawBar(percent: number, columns: number, isUtf8: boolean): string {
  const filled = Math.floor((percent / 100) * columns);
  const bar = (isUtf8 ? '█' : '#').repeat(filled);
  return `[${padText(bar, columns).replaceAll(' ', isUtf8 ? '░' : '.')}]`;
}

function failureText(failure: ShownFailure): string {
  return terminalText(`${failure.login} (${failure.machine}): ${failure.code}: ${failure.reason}`);
}
