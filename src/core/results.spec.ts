import { describe, expect, it } from 'vitest';
import { batchResults, csvCell, resultsCsv, RESULT_COLUMNS, type ResultFacts } from './results.js';

const RUN = '0193bd9c-0000-7000-8000-000000000001';
const aMachine = (more: Partial<ResultFacts> = {}): ResultFacts => ({
  login: 'ada', lastName: 'Lovelace', firstName: 'Ada', machine: 'vm-ada', vmid: 10_000, node: 'pve1', state: 'ready', ...more,
}); // prettier-ignore
const lost = (login: string, more: Partial<ResultFacts> = {}): ResultFacts =>
  aMachine({
    login,
    state: 'parked',
    code: 'address-unknown',
    reason: 'No address after 15 minutes.',
    runId: RUN,
    ...more,
  });

describe('results of a batch', () => {
  it('count machines by state and give each failure its next command', () => {
    const results = batchResults('l3-info', [aMachine(), lost('bob')]);
    expect(results.batch).toBe('l3-info');
    expect(results.counts).toEqual({ total: 2, ready: 1, parked: 1 });
    expect(results.items[0]).not.toHaveProperty('next');
    expect(results.items[1]).toMatchObject({ code: 'address-unknown', next: `hatchery run retry ${RUN}` });
    expect(results.items[1]).not.toHaveProperty('runId');
  });

  it('group failures by cause, most first, with the reason given most often', () => {
    const refused = aMachine({
      login: 'cid',
      state: 'failed',
      code: 'remote-refused',
      reason: 'storage full',
    });
    const { causes } = batchResults('l3-info', [
      refused,
      lost('a', { reason: 'other' }),
      lost('b'),
      lost('c'),
    ]);
    expect(causes).toEqual([
      {
        code: 'address-unknown',
        count: 3,
        sentence: 'The machine has no known address: No address after 15 minutes.',
        advice: expect.stringContaining('console'),
        next: 'hatchery batch retry l3-info --parked --code address-unknown',
      },
      {
        code: 'remote-refused',
        count: 1,
        sentence: 'The remote side refused: storage full.',
        advice: expect.stringContaining('Mend'),
        next: `hatchery batch retry l3-info --failed --code remote-refused`,
      },
    ]);
  });

  it('send teachers to no command that is for admins', () => {
    const missing = [lost('a', { code: 'permission-missing' }), lost('b', { code: 'permission-missing' })];
    expect(batchResults('l3', missing, 'admin').causes[0]?.next).toBe(
      'hatchery cluster check && hatchery batch retry l3 --parked --code permission-missing',
    );
    expect(batchResults('l3', missing, 'teacher').causes[0]?.next).toBe(
      'hatchery batch retry l3 --parked --code permission-missing',
    );
  });

  it('make anew what was undone, and let go on what is parked', () => {
    const failed = { state: 'failed', code: 'remote-refused' } as const;
    const nextOf = (...machines: ResultFacts[]): string | undefined =>
      batchResults('l3', machines).causes[0]?.next;
    expect(batchResults('l3', [lost('a', failed)]).items[0]?.next).toBe(`hatchery run retry ${RUN}`);
    expect(nextOf(lost('a', failed), lost('b', failed))).toBe(
      'hatchery batch retry l3 --failed --code remote-refused',
    );
    expect(nextOf(lost('a', failed), lost('b', { code: 'remote-refused' }))).toBe(
      'hatchery batch retry l3 --parked --code remote-refused',
    );
  });
});

describe('results as CSV', () => {
  it('have the fixed columns, CRLF and a byte order mark', () => {
    const csv = resultsCsv(
      batchResults('b', [aMachine({ email: 'ada@example.org', group: 'G1', address: '10.0.0.1' })]).items,
    );
    expect(csv).toBe(
      `\u{feff}${RESULT_COLUMNS.join(',')}\r\nada,Lovelace,Ada,ada@example.org,G1,vm-ada,10000,pve1,10.0.0.1,,ready,,,\r\n`,
    );
  });

  it.each(['=HYPERLINK("http://x")', '+1', '-1', '@SUM(A1)', '\t=1', '\r=1', ' =1', '＝1'])(
    'guard the formula %j',
    (text) => {
      expect(csvCell(text)).toMatch(/^"'/);
    },
  );

  it.each([
    ["x;=cmd|'/c calc'!A1;", `"x;'=cmd|'/c calc'!A1;"`],
    ['x\t@SUM(1)', `"x\t'@SUM(1)"`],
    ['it broke:\n-2+3', `"it broke:\n'-2+3"`],
    ['a; -b', `"a; '-b"`],
    ['a;b - c', '"a;b - c"'],
  ])('guard %j, which a French spreadsheet takes apart at the semicolon', (text, cell) => {
    expect(csvCell(text)).toBe(cell);
  });

  it('quote separators, quotes and line breaks, and leave plain text and numbers as they are', () => {
    expect(csvCell('a "b", c\nd')).toBe('"a ""b"", c\nd"');
    expect([csvCell('Zoé'), csvCell(10_000), csvCell(undefined), csvCell('a-b')]).toEqual([
      'Zoé',
      '10000',
      '',
      'a-b',
    ]);
  });
});
