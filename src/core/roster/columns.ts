import type { Problem } from '../errors.js';
import { foldAccents } from '../fold-accents.js';
import { columnName, isBlankCell, type Cell, type TableRow } from './table.js';

export type RosterField = 'login' | 'lastName' | 'firstName' | 'email' | 'group' | 'sshKeys';

/** Header names as compared: plain lower-case letters, without spaces, hyphens, underscores, dots and apostrophes. */
const HEADERS: ReadonlyMap<string, RosterField> = new Map(
  Object.entries({
    login: ['login', 'logins', 'identifiant', 'utilisateur', 'nomdutilisateur', 'username', 'user'],
    lastName: ['nom', 'nomdefamille', 'lastname', 'surname', 'familyname'],
    firstName: ['prenom', 'firstname', 'givenname'],
    email: ['mail', 'email', 'courriel', 'adressemail', 'adresseemail'],
    group: ['groupe', 'group'],
    sshKeys: ['sshkey', 'sshkeys', 'clessh', 'clesssh'],
  } satisfies Record<RosterField, string[]>).flatMap(([field, names]) =>
    names.map((name): [string, RosterField] => [name, field as RosterField]),
  ),
);

const SHOWN: Record<RosterField, string> = {
  login: 'login or identifiant',
  lastName: 'last name or nom',
  firstName: 'first name or prénom',
  email: 'email or courriel',
  group: 'group or groupe',
  sshKeys: 'ssh key or clé ssh',
};

export interface Column {
  readonly field: RosterField;
  readonly index: number;
  /** Header as written. */
  readonly name: string;
}

export interface Columns {
  readonly columns: readonly Column[];
  /** Cells that a row should have: up to the last header. */
  readonly width: number;
  readonly problems: readonly Problem[];
  readonly notes: readonly string[];
}

/** The field that a header names, in French or English, whatever its case, accents, spaces and underscores. */
export function fieldOfHeader(header: string): RosterField | undefined {
  if (header.length > 100) return undefined;
  return HEADERS.get(
    foldAccents(header)
      .toLowerCase()
      .replace(/[\s_.'’-]/g, ''),
  );
}

/** Finds the columns that we read. Two for one field and a missing login are problems; unknown ones are ignored and named in `notes`. */
export function findColumns(header: TableRow): Columns {
  const columns: Column[] = [];
  const problems: Problem[] = [];
  const ignored: string[] = [];
  header.cells.forEach((cell, index) => {
    if (isBlankCell(cell)) return;
    const name = columnName(cell, index);
    const field = typeof cell === 'string' ? fieldOfHeader(cell) : undefined;
    if (field === undefined) {
      ignored.push(name);
      return;
    }
    const earlier = columns.find((column) => column.field === field);
    if (earlier) {
      problems.push({
        row: header.row,
        column: name,
        code: 'column-twice',
        detail: `The columns "${earlier.name}" and "${name}" both mean ${SHOWN[field]}.`,
        hint: 'Keep one of them, and delete or rename the other.',
      });
      return;
    }
    columns.push({ field, index, name });
  });
  if (!columns.some((column) => column.field === 'login')) problems.push(missingLogin(header));
  return {
    columns,
    width: lastFilled(header.cells) + 1,
    problems,
    notes: ignored.length === 0 ? [] : [`Ignored columns: ${ignored.join(', ')}.`],
  };
}

function lastFilled(cells: readonly Cell[]): number {
  return cells.findLastIndex((cell) => !isBlankCell(cell));
}

function missingLogin(header: TableRow): Problem {
  const found = header.cells.flatMap((cell, index) => (isBlankCell(cell) ? [] : [columnName(cell, index)]));
  return {
    row: header.row,
    code: 'login-column-missing',
    detail: `No column for the login; the headers found in row ${header.row} are: ${found.slice(0, 20).join(' | ')}.`,
    hint: `Name one column login or identifiant in the first row. Optional: ${Object.values(SHOWN).slice(1).join(', ')}. Separate columns by ; , or tab.`,
  };
}
