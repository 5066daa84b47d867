import type { Problem } from '../errors.js';
import { columnLetter, quoted } from './problems.js';
import { ROSTER_LIMITS } from './limits.js';

/** A cell whose content cannot be taken as text, e.g. a date; it matters only in a column that we read. */
export interface CellFault {
  readonly code: string;
  readonly detail: string;
  readonly hint: string;
}

export type Cell = string | CellFault;

export interface TableRow {
  /** As the spreadsheet shows it, from 1. */
  readonly row: number;
  readonly cells: readonly Cell[];
}

/** A file as rows of cells, blank rows left out. The first row is the header. */
export interface Table {
  readonly rows: readonly TableRow[];
  /** What is wrong with the file itself; cells are checked later. */
  readonly problems: readonly Problem[];
}

export const isBlankCell = (cell: Cell): boolean => typeof cell === 'string' && cell.trim() === '';

export const tooManyRows = (rows: number): Problem => ({
  code: 'too-many-rows',
  detail: `The roster has ${rows} rows; at most ${ROSTER_LIMITS.rows} people fit in one roster.`,
  hint: `Split the file into parts of at most ${ROSTER_LIMITS.rows} people.`,
});

export const tooManyColumns = (row: number, columns: number): Problem => ({
  row,
  code: 'too-many-columns',
  detail: `There are ${columns} columns; at most ${ROSTER_LIMITS.columns} are read.`,
  hint: 'Delete the columns that are not needed.',
});

/** How messages call a column: its header as written, else its letter. */
export function columnName(header: Cell | undefined, index: number): string {
  const letter = columnLetter(index + 1);
  return typeof header === 'string' && header.trim() !== '' ? quoted(header.trim()).slice(1, -1) : letter;
}
