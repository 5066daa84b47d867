import type { Problem } from '../errors.js';
import { columnLetter } from './problems.js';
import { ROSTER_LIMITS } from './limits.js';
import { tooManyColumns, tooManyRows, type CellFault } from './table.js';

/** What a sheet's XML shows before the spreadsheet library builds a grid from it. */
export interface SheetScan {
  readonly problem?: Problem;
  /** Cells whose stored value is not what the person typed, by address such as `B7`. */
  readonly faults: ReadonlyMap<string, CellFault>;
}

const FORMULA: CellFault = {
  code: 'formula',
  detail: 'The cell is a formula.',
  hint: 'Copy the column and paste it as values, then save the file again.',
};
const ERROR_CELL: CellFault = {
  code: 'error-cell',
  detail: 'The cell shows an error such as #N/A or #REF!.',
  hint: 'Write the value itself.',
};

const damaged = (detail: string): Problem => ({
  code: 'xlsx-unreadable',
  detail: `The sheet cannot be read: ${detail}.`,
  hint: 'Open it in a spreadsheet program and save it again as Excel workbook (.xlsx).',
});

/** Cell texts of spreadsheets end at 32,767 characters, each of at most six in XML; a worksheet's own tag names a dozen namespaces. */
const LONGEST_TEXT = 200_000;
const LONGEST_TAG = 4096;
const DEEPEST = 64;

/**
 * Why a part of a workbook is none of a class list, or `undefined`. One pass: the spreadsheet library takes minutes for a tag of
 * 100,000 attributes, for one text of some megabytes, and for tags in tags in tags.
 */
export function oddXml(xml: string): string | undefined {
  let end = 0;
  let depth = 0;
  for (let at = xml.indexOf('<'); at >= 0; at = xml.indexOf('<', end)) {
    if (at - end > LONGEST_TEXT) break;
    const close = xml.indexOf('>', at);
    if (close < 0 || close - at > LONGEST_TAG) return 'it has a tag that no class list has';
    if (xml[at + 1] === '/') depth -= 1;
    else if (xml[close - 1] !== '/' && xml[at + 1] !== '?' && xml[at + 1] !== '!') depth += 1;
    if (depth > DEEPEST) return 'it nests its cells as no class list does';
    end = close + 1;
  }
  return xml.indexOf('<', end) >= 0 || xml.length - end > LONGEST_TEXT
    ? 'it has a text that no class list has'
    : undefined;
}

// Sticky and complete: a row or cell tag that does not fit in full is refused, so no address can hide from this scan.
const ROW_OR_CELL = /<(?:[^\s<>:/"'=]*:)?(?:row|c)((?:\s+[\w:.-]+\s*=\s*(?:"[^"<]*"|'[^'<]*'))*)\s*\/?>/y;
const TAG_NAME = /<(?:[^\s<>:/"'=]*:)?([A-Za-z]+)(?=[\s/>])/y;

/**
 * Looks at every row and cell of a sheet in one pass, so that a sheet with a value in its last possible cell, or with 100,000 rows,
 * is refused before a grid of that size is made.
 */
export function scanSheet(xml: string): SheetScan {
  const faults = new Map<string, CellFault>();
  if (/<!(DOCTYPE|ENTITY)/i.test(xml)) return { faults, problem: damaged('it declares a document type') };
  const filledRows = new Set<number>();
  let address = '';
  let tooFar: string | undefined;
  let cells = 0;
  for (let at = xml.indexOf('<'); at >= 0; at = xml.indexOf('<', at + 1)) {
    TAG_NAME.lastIndex = at;
    const name = TAG_NAME.exec(xml)?.[1];
    if (name === 'row' || name === 'c') {
      ROW_OR_CELL.lastIndex = at;
      const attributes = readAttributes(ROW_OR_CELL.exec(xml)?.[1]);
      const reference = attributes?.get('r') ?? '';
      if (!(name === 'row' ? ROW_NUMBER : ADDRESS).test(reference))
        return { faults, problem: damaged('a cell has no address') };
      address = name === 'row' ? '' : reference;
      if (name === 'c') cells += 1;
      if (cells > ROSTER_LIMITS.sheetCells) return { faults, problem: tooManyCells(xml, filledRows.size) };
      if (name === 'c' && attributes?.get('t') === 'e') faults.set(address, ERROR_CELL);
    } else if (name === 'f' && address !== '') {
      faults.set(address, FORMULA);
    } else if ((name === 'v' || name === 'is') && address !== '') {
      const [row, column] = position(address);
      if (column > ROSTER_LIMITS.columns) return { faults, problem: tooManyColumns(row, column) };
      if (row > ROSTER_LIMITS.lastSheetRow) tooFar ??= address;
      filledRows.add(row);
    }
  }
  if (filledRows.size - 1 > ROSTER_LIMITS.rows) return { faults, problem: tooManyRows(filledRows.size - 1) };
  return tooFar === undefined ? { faults } : { faults, problem: farAway(tooFar) };
}

const ROW_NUMBER = /^[1-9][0-9]{0,6}$/;
const ADDRESS = /^[A-Z]{1,3}[1-9][0-9]{0,6}$/;

/** A sheet that is too large because of its people says how many they are. */
function tooManyCells(xml: string, filledRows: number): Problem {
  if (filledRows - 1 > ROSTER_LIMITS.rows)
    return tooManyRows((xml.match(/<(?:\w+:)?row[\s>]/g)?.length ?? 1) - 1);
  return {
    code: 'too-many-cells',
    detail: `The sheet has more than ${ROSTER_LIMITS.sheetCells} cells, most of them empty but formatted.`,
    hint: 'Copy the list into a new workbook.',
  };
}

const farAway = (address: string): Problem => ({
  row: position(address)[0],
  code: 'row-too-far',
  detail: `There is a value in cell ${address}, far below the list; at most row ${ROSTER_LIMITS.lastSheetRow} is read.`,
  hint: 'Delete it, or copy the list into a new workbook.',
});

/** Attributes by local name; `undefined` when there are none to read or one comes twice. */
function readAttributes(text: string | undefined): Map<string, string> | undefined {
  const attributes = new Map<string, string>();
  for (const [, name, double, single] of (text ?? '').matchAll(/([\w:.-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')/g)) {
    const local = name?.split(':').at(-1) ?? '';
    if (attributes.has(local)) return undefined;
    attributes.set(local, double ?? single ?? '');
  }
  return attributes;
}

function position(address: string): [row: number, column: number] {
  const letters = /^[A-Z]+/.exec(address)?.[0] ?? '';
  const column = [...letters].reduce((sum, letter) => sum * 26 + letter.charCodeAt(0) - 64, 0);
  return [Number(address.slice(letters.length)), column];
}

/** The address of a cell counted from 1, e.g. row 7 and column 2 give `B7`. */
export const cellAddress = (row: number, column: number): string => `${columnLetter(column)}${row}`;
