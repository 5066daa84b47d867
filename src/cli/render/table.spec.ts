import { describe, expect, it } from 'vitest';
import { textWidth } from '../../core/terminal-text.js';
import { tableLines, type TableColumn } from './table.js';

interface Person {
  readonly login: string;
  readonly vmid: number;
  readonly reason?: string;
}
const TABLE: readonly TableColumn<Person>[] = [
  { title: 'login', value: (row) => row.login },
  { title: 'vmid', value: (row) => row.vmid, align: 'right' },
  { title: 'reason', value: (row) => row.reason },
];

describe('a table', () => {
  it('lines up its columns, numbers to the right, without spaces at line ends', () => {
    expect(
      tableLines(
        TABLE,
        [
          { login: 'ada', vmid: 100 },
          { login: 'zoé', vmid: 10_000, reason: 'full' },
        ],
        undefined,
      ),
    ).toEqual(['login   vmid  reason', 'ada      100', 'zoé    10000  full']);
  });

  it('cuts the widest columns first until it fits', () => {
    const lines = tableLines(TABLE, [{ login: '日本日本', vmid: 10_000, reason: 'x'.repeat(100) }], 40);
    expect(Math.max(...lines.map(textWidth))).toBe(40);
    expect(lines[1]).toBe(`日本日本  10000  ${'x'.repeat(22)}…`);
  });

  it('stays readable on a screen that is too small', () => {
    const lines = tableLines(TABLE, [{ login: 'ada-lovelace', vmid: 10_000, reason: 'storage is full' }], 5);
    expect(lines[1]).toBe('ada-l…  10000  stora…');
  });

  it('lets no cell control the terminal', () => {
    const lines = tableLines(TABLE, [{ login: 'a\u001b[31m', vmid: 1, reason: 'b\nc' }], 80);
    expect(lines).toHaveLength(2);
    expect(lines.join('')).not.toMatch(/\p{Cc}/u);
  });

  it('of nothing is its titles', () => {
    expect(tableLines(TABLE, [], 80)).toEqual(['login  vmid  reason']);
  });
});
