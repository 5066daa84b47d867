import { CsvError, parse } from 'csv-parse/sync';
import type { Problem } from '../errors.js';
import { fieldOfHeader } from './columns.js';
import { ROSTER_LIMITS } from './limits.js';
import { isBlankCell, tooManyColumns, tooManyRows, type Table, type TableRow } from './table.js';

const DELIMITERS = [';', ',', '\t'] as const;
const DELIMITER_NAMES = { ';': 'semicolon', ',': 'comma', '\t': 'tab' } as const;

/**
 * Reads CSV as spreadsheet programs write it.
 * Text: UTF-8 with or without a byte order mark, else Windows-1252 (French Excel). Separator: the one of `;` `,` tab that makes most of the header.
 * Rows count as a spreadsheet shows them: blank lines count, a line break inside quotes does not.
 */
export function readCsvTable(bytes: Uint8Array): Table {
  const nulAt = bytes.indexOf(0);
  if (nulAt >= 0) return onlyProblem(nulProblem(bytes, nulAt));
  const { text, delimiter: declared } = takeSeparatorLine(decodeText(bytes));
  const lines = countLines(text);
  if (lines.filled - 1 > ROSTER_LIMITS.rows) return onlyProblem(tooManyRows(lines.filled - 1));
  if (lines.all > ROSTER_LIMITS.csvLines) return onlyProblem(tooManyLines(lines.all));

  const delimiter = declared ?? findDelimiter(text);
  const rows: TableRow[] = [];
  const problems: Problem[] = [];
  let row = 0;
  const take = (cells: string[]): null => {
    row += 1;
    if (!cells.every(isBlankCell)) rows.push({ row, cells });
    return null;
  };
  try {
    parse(text, {
      delimiter,
      record_delimiter: ['\r\n', '\n', '\r'],
      relax_column_count: true,
      on_record: take,
    });
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    problems.push(quoteProblem(row + 1, error, delimiter));
  }
  const widest = rows.find(({ cells }) => cells.length > ROSTER_LIMITS.columns);
  if (widest) return onlyProblem(tooManyColumns(widest.row, widest.cells.length));
  return { rows, problems };
}

/** Bytes that are no UTF-8 are taken as Windows-1252, what Excel in French writes under "CSV". */
function decodeText(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    const latin1 = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
    return latin1.replace(
      /[\u0080-\u009f]/g,
      (letter) => WINDOWS_1252[letter.charCodeAt(0) - 0x80] ?? letter,
    );
  }
}

/** Letters of the bytes 0x80 to 0x9f. Node 20's own decoder of this name reads these bytes as Latin-1, which loses Œ, € and ’. */
const WINDOWS_1252 = [...'€\u0081‚ƒ„…†‡ˆ‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—˜™š›œ\u009džŸ'];

/** The separator under which most header cells are known columns; with a tie the one that occurs most. */
function findDelimiter(text: string): string {
  const start = text.search(/[^\s;,"]/);
  const lineStart = Math.max(text.lastIndexOf('\n', start), text.lastIndexOf('\r', start)) + 1;
  const line =
    /^[^\r\n]*/.exec(text.slice(lineStart, lineStart + 64 * ROSTER_LIMITS.cellCharacters))?.[0] ?? '';
  const scored = DELIMITERS.map((delimiter) => {
    const cells = splitLine(line, delimiter);
    return {
      delimiter,
      known: cells.filter((cell) => fieldOfHeader(cell) !== undefined).length,
      count: cells.length,
    };
  });
  scored.sort((a, b) => b.known - a.known || b.count - a.count);
  return scored[0]?.delimiter ?? ';';
}

function splitLine(line: string, delimiter: string): string[] {
  const cells: string[] = [];
  let cell = '';
  let isQuoted = false;
  for (const character of line) {
    if (character === '"') isQuoted = !isQuoted;
    else if (character === delimiter && !isQuoted) {
      cells.push(cell);
      cell = '';
    } else cell += character;
  }
  return [...cells, cell];
}

/** Excel's own first line `sep=;`, which it does not show as a row. */
function takeSeparatorLine(text: string): { text: string; delimiter: string | undefined } {
  const match = /^sep=([;,\t])\r?\n/i.exec(text);
  return match ? { text: text.slice(match[0].length), delimiter: match[1] } : { text, delimiter: undefined };
}

/** Lines, and those that hold more than separators; counted without parsing, so that a huge file is refused at once. */
function countLines(text: string): { all: number; filled: number } {
  let all = 1;
  let filled = 0;
  let isFilled = false;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === 10 || code === 13) {
      isFilled = false;
      all += 1;
    } else if (!isFilled && code > 32 && code !== 34 && code !== 44 && code !== 59) {
      isFilled = true;
      filled += 1;
    }
  }
  return { all, filled };
}

const tooManyLines = (lines: number): Problem => ({
  code: 'too-many-rows',
  detail: `The file has ${lines} lines, most of them empty; at most ${ROSTER_LIMITS.csvLines} are read.`,
  hint: 'Delete the empty rows below the list and save the file again.',
});

function onlyProblem(problem: Problem): Table {
  return { rows: [], problems: [problem] };
}

function nulProblem(bytes: Uint8Array, at: number): Problem {
  const before = Buffer.from(bytes.subarray(0, at)).toString('latin1');
  return {
    row: before.split(/\r\n|\n|\r/).length,
    code: 'nul-character',
    detail: 'The file holds a NUL character: it is damaged, or not a text file.',
    hint: 'Save the list again as CSV UTF-8 (.csv) or as Excel workbook (.xlsx).',
  };
}

function quoteProblem(row: number, error: CsvError, delimiter: string): Problem {
  const separator = DELIMITER_NAMES[delimiter as keyof typeof DELIMITER_NAMES];
  if (error.code === 'CSV_QUOTE_NOT_CLOSED') {
    return {
      row,
      code: 'quote-not-closed',
      detail: 'A cell begins with a double quote that is never closed; the rows below it could not be read.',
      hint: 'Close the quote, or remove it.',
    };
  }
  return {
    row,
    code: 'quote-misplaced',
    detail: 'A double quote stands inside a cell; the rows below it could not be read.',
    hint: `Write a quoted cell as "text" followed by a ${separator}, and a quote inside it twice: "Jo ""Jojo"" Petit".`,
  };
}
