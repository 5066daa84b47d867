import { padText, terminalText, textWidth, truncateText } from '../../core/terminal-text.js';

export interface TableColumn<Row> {
  readonly title: string;
  readonly value: (row: Row) => string | number | null | undefined;
  readonly align?: 'left' | 'right';
  /** Narrowest width when the screen is too small; default the title's, at least 6. */
  readonly minColumns?: number;
}

const GAP = '  ';

/**
 * A table as lines: title row, then one line a row; nothing in a cell can control the terminal.
 * `columns` is the width of the screen, `undefined` (a pipe) cuts nothing. The widest columns are cut first.
 */
export function tableLines<Row>(
  table: readonly TableColumn<Row>[],
  rows: readonly Row[],
  columns: number | undefined,
): string[] {
  const cells = rows.map((row) => table.map(({ value }) => terminalText(String(value(row) ?? ''))));
  const lines = [table.map(({ title }) => title), ...cells];
  const wanted = table.map((_, at) => Math.max(...lines.map((line) => textWidth(line[at] ?? ''))));
  const widths = columns === undefined ? wanted : fit(table, wanted, columns);
  return lines.map((line) =>
    line
      .map((cell, at) => padText(truncateText(cell, widths[at] ?? 0), widths[at] ?? 0, table[at]?.align))
      .join(GAP)
      .trimEnd(),
  );
}

/** Takes columns from the widest until the table fits or nothing more can be taken. */
function fit<Row>(table: readonly TableColumn<Row>[], wanted: readonly number[], columns: number): number[] {
  const widths = [...wanted];
  const least = table.map(({ title, minColumns }, at) =>
    Math.min(wanted[at] ?? 0, minColumns ?? Math.max(6, textWidth(title))),
  );
  const gaps = GAP.length * (table.length - 1);
  let excess = widths.reduce((sum, width) => sum + width, gaps) - columns;
  while (excess > 0) {
    let widest = -1;
    widths.forEach((width, at) => {
      if (width > (least[at] ?? 0) && (widest < 0 || width > (widths[widest] ?? 0))) widest = at;
    });
    if (widest < 0) break;
    widths[widest] = (widths[widest] ?? 0) - 1;
    excess -= 1;
  }
  return widths;
}

/** `tableLines` as one text. */
export const tableText = <Row>(
  table: readonly TableColumn<Row>[],
  rows: readonly Row[],
  columns: number | undefined,
): string => `${tableLines(table, rows, columns).join('\n')}\n`;
