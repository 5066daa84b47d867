import type { Problem } from '../errors.js';
import { loginKey, plainText, readEmail, readLogin, readSshKeys, type Checked } from './cells.js';
import { findColumns, type Column, type Columns, type RosterField } from './columns.js';
import { readCsvTable } from './csv-table.js';
import { fileKind } from './file-kind.js';
import { ROSTER_LIMITS } from './limits.js';
import { quoted, refuseRoster } from './problems.js';
import { isBlankCell, tooManyRows, type Cell, type Table, type TableRow } from './table.js';
import { readXlsxTable } from './xlsx-table.js';

/** One person of a roster, checked and normalised. */
export interface RosterRow {
  /** As the spreadsheet shows it: the header is usually row 1. */
  readonly row: number;
  /** As written, without surrounding spaces, in Unicode form NFC. */
  readonly login: string;
  /** Equal for logins that differ only by case or accents: lower-case, plain letters. */
  readonly loginKey: string;
  readonly lastName: string;
  readonly firstName: string;
  readonly email?: string;
  readonly group?: string;
  /** `type base64 comment`, without options. */
  readonly sshKeys: readonly string[];
}

export interface Roster {
  readonly rows: readonly RosterRow[];
  /** What people should know although it is no error, e.g. ignored columns. */
  readonly notes: readonly string[];
}

/**
 * Reads a class list: CSV (`,` `;` or tab; UTF-8 or Windows-1252) or the first sheet of an XLSX workbook; headers in French or English.
 * What the file is shows in its bytes; `name` is not believed.
 * Errors: `roster-invalid` with every finding in `problems` (row as the spreadsheet shows it, header as written, what to write instead); nothing is read in part.
 */
export async function readRoster(file: { name: string; bytes: Uint8Array }): Promise<Roster> {
  const table = await readTable(file.bytes);
  const [header, ...rows] = table.rows;
  if (!header) refuseRoster(table.problems.length > 0 ? table.problems : [EMPTY]);
  const columns = findColumns(header);
  if (columns.problems.length > 0) refuseRoster([...columns.problems, ...table.problems]);
  if (rows.length > ROSTER_LIMITS.rows) refuseRoster([tooManyRows(rows.length)]);
  if (rows.length === 0) refuseRoster(table.problems.length > 0 ? table.problems : [NOBODY]);

  const problems: Problem[] = [];
  const read = rows.map((row) => readRow(row, columns, problems));
  problems.push(...findTwins(read, columns));
  problems.push(...table.problems);
  if (problems.length > 0) refuseRoster([...problems].sort((a, b) => (a.row ?? 0) - (b.row ?? 0)));
  return { rows: read, notes: columns.notes };
}

const EMPTY: Problem = {
  code: 'file-empty',
  detail: 'The file has no cells.',
  hint: 'Write a header row with a column login, and one row for each person.',
};
const NOBODY: Problem = {
  code: 'nobody',
  detail: 'The roster has a header but no people.',
  hint: 'Write one row for each person below the header.',
};

async function readTable(bytes: Uint8Array): Promise<Table> {
  const kind = fileKind(bytes);
  if (kind.kind === 'refused') return { rows: [], problems: [kind.problem] };
  const maxBytes = kind.kind === 'zip' ? ROSTER_LIMITS.xlsxBytes : ROSTER_LIMITS.csvBytes;
  if (bytes.length > maxBytes) {
    const detail = `The file has ${mebibytes(bytes.length)} MiB; at most ${mebibytes(maxBytes)} MiB are read.`;
    const hint = 'Keep only the columns and rows of the class, or split the file.';
    return { rows: [], problems: [{ code: 'file-too-large', detail, hint }] };
  }
  return kind.kind === 'zip' ? readXlsxTable(bytes) : readCsvTable(bytes);
}

const mebibytes = (bytes: number): string => (bytes / 1_048_576).toFixed(1).replace(/\.0$/, '');

function readRow(row: TableRow, { columns, width }: Columns, problems: Problem[]): RosterRow {
  problems.push(...checkWidth(row, width));
  const take = <T>(field: RosterField, check: (cell: Cell) => Checked<T>): T | undefined => {
    const column = columns.find((candidate) => candidate.field === field);
    if (!column) return undefined;
    const checked = check(row.cells[column.index] ?? '');
    if ('value' in checked) return checked.value;
    problems.push({ row: row.row, column: column.name, ...checked.fault });
    return undefined;
  };
  const login = take('login', readLogin) ?? '';
  const lastName = take('lastName', plainText) ?? '';
  const firstName = take('firstName', plainText) ?? '';
  const email = take('email', readEmail);
  const group = take('group', plainText);
  return {
    row: row.row,
    login,
    loginKey: loginKey(login),
    lastName,
    firstName,
    ...(email === undefined ? {} : { email }),
    ...(group === undefined || group === '' ? {} : { group }),
    sshKeys: take('sshKeys', readSshKeys) ?? [],
  };
}

/** Rows as long as the header; separators at the end that hold nothing do no harm. */
function checkWidth(row: TableRow, width: number): Problem[] {
  const filled = row.cells.findLastIndex((cell) => !isBlankCell(cell)) + 1;
  if (filled > width) {
    return [
      {
        row: row.row,
        code: 'too-many-cells',
        detail: `The row has ${filled} cells, the header ${width}.`,
        hint: 'Put a text that holds the separator between double quotes, or name the further column in the header.',
      },
    ];
  }
  if (row.cells.length < width) {
    return [
      {
        row: row.row,
        code: 'too-few-cells',
        detail: `The row has ${row.cells.length} cells, the header ${width}.`,
        hint: 'Write a separator for each empty cell too.',
      },
    ];
  }
  return [];
}

/** The same person twice, also under another case or accent form. */
function findTwins(rows: readonly RosterRow[], { columns }: Columns): Problem[] {
  const column = columns.find(({ field }: Column) => field === 'login');
  const first = new Map<string, RosterRow>();
  return rows.flatMap((row): Problem[] => {
    if (row.login === '') return [];
    const earlier = first.get(row.loginKey);
    if (!earlier) {
      first.set(row.loginKey, row);
      return [];
    }
    const isSame = earlier.login === row.login;
    return [
      {
        row: row.row,
        ...(column ? { column: column.name } : {}),
        code: 'login-twice',
        detail: isSame
          ? `${quoted(row.login)} is already in row ${earlier.row}.`
          : `${quoted(row.login)} is the same login as ${quoted(earlier.login)} in row ${earlier.row}: case and accents make no difference.`,
        hint: `Delete row ${row.row} or row ${earlier.row}, or correct the login.`,
      },
    ];
  });
}
