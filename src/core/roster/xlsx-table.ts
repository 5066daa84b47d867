import { readSheet } from 'read-excel-file/node';
import type { Problem } from '../errors.js';
import { ROSTER_LIMITS } from './limits.js';
import { cellAddress, oddXml, scanSheet } from './sheet-scan.js';
import { isBlankCell, type Cell, type CellFault, type Table, type TableRow } from './table.js';
import { listZip, storeZip, unpackEntry, ZipFault, type ZipEntry } from './zip.js';

const SAVE_AGAIN =
  'Open it in a spreadsheet program and save it as Excel workbook (.xlsx) or CSV UTF-8 (.csv).';
/** The list of sheets and its relations. */
const WORKBOOK_BYTES = 1024 * 1024;
const DATE: CellFault = {
  code: 'date-cell',
  detail: 'The spreadsheet turned this cell into a date.',
  hint: 'Format the column as text and type the value again.',
};
const NUMBER: CellFault = {
  code: 'number-cell',
  detail:
    'The cell is a number with a fraction, a sign or more than 15 digits, which the spreadsheet may have changed.',
  hint: 'Format the column as text and type the value again.',
};
const BOOLEAN: CellFault = {
  code: 'boolean-cell',
  detail: 'The spreadsheet turned this cell into TRUE or FALSE.',
  hint: 'Format the column as text and type the value again.',
};

/**
 * Reads the first sheet of an Excel workbook.
 * Only parts that our own ZIP reader has measured and unpacked within limits reach the spreadsheet library, packed anew: the library follows
 * the parts' own headers, which need not agree with the directory that was checked.
 */
export async function readXlsxTable(bytes: Uint8Array): Promise<Table> {
  let parts: Map<string, Uint8Array>;
  let sheet: string | undefined;
  try {
    const entries = listZip(bytes, {
      entries: ROSTER_LIMITS.xlsxEntries,
      unpackedBytes: ROSTER_LIMITS.xlsxUnpackedBytes,
    });
    const foreign = nameContainer(bytes, entries);
    if (foreign) return refused('file-type', `The file is ${foreign}, not a roster.`);
    parts = unpackWorkbook(bytes, entries);
    sheet = firstSheetPath(parts);
    const entry = entries.find(({ path }) => path === sheet);
    if (!sheet || !entry) return refused('xlsx-unreadable', 'The workbook cannot be read: it has no sheet.');
    parts.set(sheet, unpackPart(bytes, entry));
  } catch (error) {
    if (!(error instanceof ZipFault)) throw error;
    return refused('xlsx-unreadable', `The workbook cannot be read: ${error.message}.`);
  }
  const scan = scanSheet(Buffer.from(parts.get(sheet) ?? []).toString('utf8'));
  if (scan.problem) return { rows: [], problems: [scan.problem] };
  try {
    const grid = await readSheet<NumberText>(storeZip(parts), {
      trim: false,
      parseNumber: (text) => new NumberText(text),
    });
    return { rows: toRows(grid, scan.faults), problems: [] };
  } catch (error) {
    return refused(
      'xlsx-unreadable',
      `The workbook cannot be read: its content is damaged${reasonOf(error)}.`,
    );
  }
}

/** A number as the file writes it: as a double it could lose digits. */
class NumberText {
  constructor(readonly text: string) {}
}

function toRows(grid: readonly (readonly unknown[])[], faults: ReadonlyMap<string, CellFault>): TableRow[] {
  return grid.flatMap((values, index) => {
    const row = index + 1;
    const cells = values.map(
      (value, column): Cell => faults.get(cellAddress(row, column + 1)) ?? toCell(value),
    );
    return cells.every(isBlankCell) ? [] : [{ row, cells }];
  });
}

function toCell(value: unknown): Cell {
  if (value === null) return '';
  if (typeof value === 'string') return value;
  if (value instanceof Date) return DATE;
  if (value instanceof NumberText) return /^[0-9]{1,15}$/.test(value.text) ? value.text : NUMBER;
  return BOOLEAN;
}

/** Parts without cells, styles or names of sheets; those of big workbooks would be refused for their size. */
const UNREAD = /^xl\/(calcChain|connections|metadata|volatileDependencies)\.xml$/;

/** The parts that the library needs besides the sheet. */
function unpackWorkbook(bytes: Uint8Array, entries: readonly ZipEntry[]): Map<string, Uint8Array> {
  const wanted = entries.filter(
    ({ path }) =>
      (/^xl\/[^/]+\.xml$/.test(path) && !UNREAD.test(path)) || path === 'xl/_rels/workbook.xml.rels',
  );
  return new Map(wanted.map((entry) => [entry.path, unpackPart(bytes, entry)]));
}

function unpackPart(bytes: Uint8Array, entry: ZipEntry): Uint8Array {
  const maxBytes = entry.path.includes('workbook.xml') ? WORKBOOK_BYTES : ROSTER_LIMITS.xlsxPartBytes;
  if (entry.unpackedBytes > maxBytes) {
    throw new ZipFault(`a part unpacks to ${entry.unpackedBytes} bytes; at most ${maxBytes} are read`);
  }
  const part = unpackEntry(bytes, entry);
  const odd = oddXml(Buffer.from(part).toString('utf8'));
  if (odd !== undefined) throw new ZipFault(odd);
  return part;
}

/** `workbook.xml` lists the sheets in the order of their tabs; its relations say where each one is. */
function firstSheetPath(parts: ReadonlyMap<string, Uint8Array>): string | undefined {
  const text = (path: string): string => Buffer.from(parts.get(path) ?? []).toString('utf8');
  const sheet = /<(?:\w+:)?sheet\s[^<>]*>/.exec(text('xl/workbook.xml'))?.[0];
  const id = sheet === undefined ? undefined : attribute(sheet, '\\w+:id');
  const relations = text('xl/_rels/workbook.xml.rels').match(/<(?:\w+:)?Relationship\s[^<>]*>/g) ?? [];
  const relation = relations.find((tag) => attribute(tag, 'Id') === id);
  const target = relation === undefined ? undefined : attribute(relation, 'Target');
  if (id === undefined || target === undefined) return undefined;
  return target.startsWith('/') ? target.slice(1) : `xl/${target}`;
}

function attribute(tag: string, name: string): string | undefined {
  const match = new RegExp(`\\s${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)')`).exec(tag);
  return match?.[1] ?? match?.[2];
}

/** What a ZIP container is when it is no plain Excel workbook. */
function nameContainer(bytes: Uint8Array, entries: readonly ZipEntry[]): string | undefined {
  const has = (path: string): boolean => entries.some((entry) => entry.path === path);
  const mimetype = entries.find((entry) => entry.path === 'mimetype' && entry.unpackedBytes < 200);
  if (mimetype) {
    const type = Buffer.from(unpackEntry(bytes, mimetype)).toString('latin1');
    if (type.includes('opendocument.spreadsheet')) return 'an OpenDocument spreadsheet (.ods)';
    if (type.includes('opendocument')) return 'an OpenDocument file';
  }
  if (has('xl/workbook.bin')) return 'a binary Excel workbook (.xlsb)';
  if (has('xl/vbaProject.bin')) return 'an Excel workbook with macros (.xlsm)';
  if (has('xl/workbook.xml')) return undefined;
  if (entries.some(({ path }) => path.startsWith('word/'))) return 'a Word document (.docx)';
  if (entries.some(({ path }) => path.startsWith('ppt/'))) return 'a presentation (.pptx)';
  return 'a ZIP archive';
}

function refused(code: string, detail: string): Table {
  const problem: Problem = { code, detail, hint: SAVE_AGAIN };
  return { rows: [], problems: [problem] };
}

/** The library's own refusals name the cell; anything else is not for people. */
function reasonOf(error: unknown): string {
  return error instanceof Error && error.name === 'InvalidSpreadsheetError'
    ? ` (${error.message.slice(0, 100)})`
    : '';
}
