import { ERRORS, type ErrorCode, type ErrorRecord } from './errors.js';
import { nextCommand, remedyOf, type Reader } from './remedies.js';
import type { MachineState } from './states.js';

/** The columns of results, in order; JSON items have the same names. */
export const RESULT_COLUMNS = [
  'login', 'lastName', 'firstName', 'email', 'group', 'machine', 'vmid', 'node', 'address', 'link', 'state', 'code', 'reason', 'next',
] as const; // prettier-ignore

/** One machine of a batch in the table of results. `code`, `reason` and `next` are there when it is not as wanted. */
export interface ResultItem {
  readonly login: string;
  readonly lastName: string;
  readonly firstName: string;
  readonly email?: string;
  readonly group?: string;
  readonly machine: string;
  readonly vmid: number;
  readonly node: string;
  readonly address?: string;
  readonly link?: string;
  readonly state: MachineState;
  readonly code?: ErrorCode;
  readonly reason?: string;
  /** Command that goes on from here. */
  readonly next?: string;
}

/** Machines that stand still for the same cause. */
export interface ResultCause {
  readonly code: ErrorCode;
  readonly count: number;
  readonly sentence: string;
  /** What has to be done before the command helps. */
  readonly advice: string;
  readonly next: string;
}

export interface BatchResults {
  readonly batch: string;
  readonly counts: { readonly total: number } & Partial<Record<MachineState, number>>;
  readonly items: readonly ResultItem[];
  readonly causes: readonly ResultCause[];
}

/** What a machine's error is made of before its remedy is added. */
export type ResultFacts = Omit<ResultItem, 'next'> & { readonly runId?: string };

/**
 * The results of one batch, in the order given: items with their next commands, counts by state, failures grouped by cause (most first).
 * `stops`: why nothing goes on at all on its cluster.
 */
export function batchResults(
  batch: string,
  machines: readonly ResultFacts[],
  reader: Reader = 'teacher',
  stops: readonly ErrorRecord[] = [],
): BatchResults {
  const counts: Partial<Record<MachineState, number>> = {};
  for (const { state } of machines) counts[state] = (counts[state] ?? 0) + 1;
  return {
    batch,
    counts: { total: machines.length, ...counts },
    items: machines.map(({ runId, ...item }) =>
      item.code === undefined
        ? item
        : { ...item, next: nextCommand(item.code, batch, { state: item.state, reader, runId }) },
    ),
    causes: [...standstills(batch, machines, reader, stops), ...groupCauses(batch, machines, reader)],
  };
}

/** Machines that wait because nothing is dispatched to their cluster. */
function standstills(
  batch: string,
  machines: readonly ResultFacts[],
  reader: Reader,
  stops: readonly ErrorRecord[],
): ResultCause[] {
  const count = machines.filter(({ state }) => ['reserved', 'creating', 'deleting'].includes(state)).length;
  if (count === 0) return [];
  return stops.map(({ code, message }) => ({
    code,
    count,
    sentence: message.endsWith('.') ? message : `${message}.`,
    advice: remedyOf(code).advice,
    next:
      reader === 'admin'
        ? (remedyOf(code).first ?? 'hatchery cluster check')
        : `hatchery batch show ${batch}`,
  }));
}

function groupCauses(batch: string, machines: readonly ResultFacts[], reader: Reader): ResultCause[] {
  const groups = new Map<ErrorCode, ResultFacts[]>();
  for (const machine of machines) {
    if (machine.code === undefined) continue;
    groups.set(machine.code, [...(groups.get(machine.code) ?? []), machine]);
  }
  return [...groups]
    .map(([code, group]): ResultCause => ({
      code,
      count: group.length,
      sentence: `${ERRORS[code].title}${commonReason(group)}.`,
      advice: remedyOf(code).advice,
      next: nextCommand(code, batch, {
        state: group.every(({ state }) => state === 'failed') ? 'failed' : 'parked',
        reader,
        runId: group.length === 1 ? group[0]?.runId : undefined,
      }),
    }))
    .sort((a, b) => b.count - a.count || (a.code < b.code ? -1 : 1));
}

/** The reason given most often; with a tie the first. */
function commonReason(group: readonly ResultFacts[]): string {
  const counts = new Map<string, number>();
  for (const { reason } of group) if (reason) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  const most = [...counts].reduce<[string, number] | undefined>(
    (best, next) => (best && best[1] >= next[1] ? best : next),
    undefined,
  );
  return most ? `: ${most[0].replace(/[.\s]{1,9}$/, '')}` : '';
}

/**
 * Results as CSV that spreadsheet programs open by double click: comma, CRLF, UTF-8 with byte order mark.
 * A cell that a spreadsheet would take as a formula gets a leading apostrophe.
 */
export function resultsCsv(items: readonly ResultItem[]): string {
  const lines = items.map((item) => RESULT_COLUMNS.map((column) => csvCell(item[column])).join(','));
  return `\u{feff}${[RESULT_COLUMNS.join(','), ...lines].join('\r\n')}\r\n`;
}

/**
 * Where a formula could begin: at the start of a cell, and behind what separates cells where the list separator is another one. Excel in
 * French takes a file of commas apart at its semicolons, tabs and line breaks, whatever the quotes.
 */
const FORMULA_START = /(?:^(?=\s*[=+\-@\t\r＝＋－＠])|[;\t\r\n]\s*(?=[=+\-@＝＋－＠]))/gu;

/** One cell of a CSV export: guarded against formulas, quoted where needed. */
export function csvCell(value: string | number | undefined): string {
  if (value === undefined) return '';
  if (typeof value === 'number') return String(value);
  const text = value.replace(FORMULA_START, (start) => `${start}'`);
  return /[",;\r\n\t']/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
