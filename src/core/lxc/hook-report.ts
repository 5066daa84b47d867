import { terminalText } from '../terminal-text.js';

/** How far a hook of a container is, by what it wrote into its report. Text of the guest: data, never more. */
export type HookReport =
  | { readonly state: 'silent' }
  | { readonly state: 'working'; readonly percent: number; readonly what: string }
  | { readonly state: 'done' }
  | { readonly state: 'failed'; readonly why: string };

/** As much of a report's end as is read, bytes. */
export const REPORT_TAIL = 16_384;
const WORDS_MAX = 300;

/**
 * Reads a report: lines `progress <0-100> <what>`, `done`, `failed <why>`; the last of them counts, lines that are none of them do not.
 * A hook that is run again writes on: `failed`, then `progress` is working.
 */
export function readHookReport(text: string): HookReport {
  const lines = text.slice(-REPORT_TAIL).split('\n');
  // What has no line break yet is still being written.
  for (const line of lines.slice(0, -1).toReversed()) {
    const report = readLine(line);
    if (report) return report;
  }
  return { state: 'silent' };
}

function readLine(line: string): HookReport | undefined {
  if (line === 'done') return { state: 'done' };
  const failed = /^failed (.*)$/.exec(line);
  if (failed) return { state: 'failed', why: words(failed[1]!) };
  const progress = /^progress ([0-9]{1,2}|100) (.*)$/.exec(line);
  return progress ? { state: 'working', percent: Number(progress[1]), what: words(progress[2]!) } : undefined;
}

const words = (text: string): string => terminalText(text).trim().slice(0, WORDS_MAX);
