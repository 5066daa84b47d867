import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { HatcheryError, type Problem } from '../errors.js';
import { readRoster, type Roster } from './roster.js';

const read = (content: string | Uint8Array): Promise<Roster> =>
  readRoster({
    name: 'class.csv',
    bytes: typeof content === 'string' ? Buffer.from(content, 'utf8') : content,
  });

/** The findings of a roster that must be refused. */
async function problemsOf(content: string | Uint8Array): Promise<readonly Problem[]> {
  const error: unknown = await read(content).then(
    (roster) => new Error(`accepted ${roster.rows.length} rows`),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof HatcheryError)) throw error;
  expect(error.code).toBe('roster-invalid');
  expect(error.message).toMatch(/^Unable to read the roster: /);
  for (const problem of error.problems) expect(problem.hint).toMatch(/\S/);
  return error.problems;
}

const codesOf = async (content: string | Uint8Array): Promise<string[]> =>
  (await problemsOf(content)).map(({ code }) => code);
const utf16 = (text: string): Buffer => Buffer.from(`\u{feff}${text}`, 'utf16le');

describe('a roster that can be used', () => {
  it('reads the example class of 120', async () => {
    const roster = await read(readFileSync('examples/class-l3-info.csv'));
    expect(roster.rows).toHaveLength(120);
    expect(new Set(roster.rows.map(({ loginKey }) => loginKey)).size).toBe(120);
    expect(new Set(roster.rows.map(({ group }) => group))).toEqual(
      new Set(['L3-INFO-1', 'L3-INFO-2', 'L3-INFO-3', 'L3-INFO-4']),
    );
    expect(roster.notes).toEqual([]);
  });

  it.each([',', ';', '\t'])('reads columns separated by %j', async (separator) => {
    const lines = [
      ['login', 'nom', 'mail'],
      ['jdupont', 'Dupont', 'j@example.org'],
    ].map((cells) => cells.join(separator));
    expect((await read(lines.join('\n'))).rows).toEqual([
      {
        row: 2,
        login: 'jdupont',
        loginKey: 'jdupont',
        lastName: 'Dupont',
        firstName: '',
        email: 'j@example.org',
        sshKeys: [],
      },
    ]);
  });

  it('finds the separator although quoted header cells hold others', async () => {
    const roster = await read('"Note; sur 20, arrondie";login\n12;ada\n');
    expect(roster.rows[0]?.login).toBe('ada');
    expect(roster.notes).toEqual(['Ignored columns: Note; sur 20, arrondie.']);
  });

  it('obeys and does not count the line "sep=;" of Excel', async () => {
    expect((await read('sep=;\r\nlogin;nom\r\nada;L\r\n')).rows[0]?.row).toBe(2);
  });

  it.each([
    ['UTF-8', Buffer.from('identifiant;prénom\nélodie;Zoé\n', 'utf8')],
    ['UTF-8 with a byte order mark', Buffer.from('\u{feff}identifiant;prénom\nélodie;Zoé\n', 'utf8')],
    ['Windows-1252', Buffer.from('identifiant;prénom\nélodie;Zoé\n', 'latin1')],
  ])('reads %s', async (_, bytes) => {
    expect((await read(bytes)).rows[0]).toMatchObject({
      login: 'élodie',
      loginKey: 'elodie',
      firstName: 'Zoé',
    });
  });

  it('reads the letters that Windows-1252 has and Latin-1 has not', async () => {
    const bytes = Buffer.concat([
      Buffer.from('login;nom\nada;'),
      Buffer.from([0x8c]),
      Buffer.from('uvrard D'),
      Buffer.from([0x92]),
      Buffer.from('Arc\n'),
    ]);
    expect((await read(bytes)).rows[0]?.lastName).toBe('Œuvrard D’Arc');
  });

  it.each([
    ['IDENTIFIANT;Nom;PRÉNOM;Courriel;Groupe;Clé SSH'],
    ['Login;Last Name;First_Name;E-mail;group;ssh keys'],
    ['username;surname;firstname;MAIL;GROUPE;SSHKey'],
    [' utilisateur ;"nom de famille";prenom;email;groupe;cle_ssh'],
  ])('knows the headers %s', async (header) => {
    expect((await read(`${header}\nada;Lovelace;Ada;ada@example.org;G1;\n`)).rows[0]).toMatchObject({
      login: 'ada', lastName: 'Lovelace', firstName: 'Ada', email: 'ada@example.org', group: 'G1', sshKeys: [],
    }); // prettier-ignore
  });

  it('takes columns in any order and names the ignored ones', async () => {
    const roster = await read('Note,Groupe,Nom,Login\n12,G1,Lovelace,ada\n');
    expect(roster.rows[0]).toMatchObject({ login: 'ada', lastName: 'Lovelace', group: 'G1' });
    expect(roster.notes).toEqual(['Ignored columns: Note.']);
  });

  it('ignores what stands in ignored columns', async () => {
    expect((await read('login;moyenne;__proto__\nada;=A1+B1;x\n')).rows).toHaveLength(1);
  });

  it('reads quoted cells with separators and quotes', async () => {
    expect((await read('login;nom\nada;"King; ""Countess"""\n')).rows[0]?.lastName).toBe('King; "Countess"');
  });

  it('skips blank lines and rows of only separators, and counts them as a spreadsheet does', async () => {
    const roster = await read('\nlogin;nom\r\n\r\nada;L\n;;\n  ;\nbob;M\n\n');
    expect(roster.rows.map(({ row, login }) => [row, login])).toEqual([[4, 'ada'], [7, 'bob']]); // prettier-ignore
  });

  it('reads all three line ends', async () => {
    expect((await read('login\ra\rb\r')).rows).toHaveLength(2);
    expect((await read('login\r\na\r\nb')).rows).toHaveLength(2);
  });

  it('brings text to NFC, trims it and turns no-break spaces into spaces', async () => {
    const roster = await read('login;nom\n e\u0301lodie\u00a0;De\u00a0La\u202fTour \n');
    expect(roster.rows[0]).toMatchObject({ login: 'élodie', lastName: 'De La Tour' });
  });

  it('reads one sheet of 2,000 people', async () => {
    const lines = Array.from({ length: 2000 }, (_, index) => `user${index}`);
    expect((await read(['login', ...lines].join('\n'))).rows).toHaveLength(2000);
  });
});

describe('a roster with mistakes', () => {
  it('names every mistake with its row, its column as written and what to write', async () => {
    const problems = await problemsOf(
      'Identifiant;Nom;E-Mail\nada;L;ada@example.org\n;M;x\nb b;=1;ok@example.org\n',
    );
    expect(problems.map(({ row, column, code }) => [row, column, code])).toEqual([
      [3, 'Identifiant', 'login-missing'],
      [3, 'E-Mail', 'email-invalid'],
      [4, 'Identifiant', 'login-invalid'],
      [4, 'Nom', 'formula'],
    ]);
    expect(problems[1]).toMatchObject({
      detail: '"x" is not an e-mail address.',
      hint: expect.stringContaining('jdupont@example.org'),
    });
  });

  it.each([
    ['the same text', 'ada', 'ada'],
    ['case', 'ada', 'ADA'],
    ['accents', 'élodie', 'Elodie'],
    ['the accent form', '\u00e9lodie', 'e\u0301lodie'],
    ['a ligature', 'bœuf', 'boeuf'],
  ])('refuses two logins that differ by %s, and names both rows', async (_, first, second) => {
    const problems = await problemsOf(`login\n${first}\nbob\n${second}\n`);
    expect(problems).toMatchObject([
      { row: 4, column: 'login', code: 'login-twice', detail: expect.stringContaining('row 2') },
    ]);
  });

  it('lists the headers found when the login column is missing', async () => {
    const problems = await problemsOf('Nom|Prénom\nLovelace|Ada\n');
    expect(problems).toMatchObject([
      {
        row: 1,
        code: 'login-column-missing',
        detail: expect.stringContaining('Nom|Prénom'),
        hint: expect.stringContaining('identifiant'),
      },
    ]);
  });

  it('refuses two columns of one meaning', async () => {
    expect(await problemsOf('login;mail;courriel\na;;\n')).toMatchObject([
      { column: 'courriel', code: 'column-twice', detail: expect.stringContaining('"mail"') },
    ]);
  });

  it('refuses rows with more or fewer cells than the header', async () => {
    const problems = await problemsOf('login;nom\nada\nbob;M;x\ncid;N;;\n');
    expect(problems.map(({ row, code }) => [row, code])).toEqual([[2, 'too-few-cells'], [3, 'too-many-cells']]); // prettier-ignore
  });

  it('names the row of a quote that is not closed, besides the mistakes above it', async () => {
    const problems = await problemsOf('login;nom\nb b;L\nada;"open\nbob;M\n');
    expect(problems.map(({ row, code }) => [row, code])).toEqual([[2, 'login-invalid'], [3, 'quote-not-closed']]); // prettier-ignore
    expect(await codesOf('login;nom\nada;x"y"\n')).toEqual(['quote-misplaced']);
    expect(await codesOf('login;nom\nada;"x"y\n')).toEqual(['quote-misplaced']);
  });

  it.each(['=1+1', '+33612345678', '-1', '@SUM(A1)', '\t=1', '＝1', ' =1'])(
    'refuses the formula %j',
    async (cell) => {
      expect(await codesOf(`login,nom\nada,"${cell}"\n`)).toEqual(['formula']);
    },
  );

  it.each([
    ['an escape', 'a\u001b[31m'],
    ['a bell', 'a\u0007'],
    ['a C1 control', 'a\u009b31m'],
    ['a bidi override', 'ada\u202egnp'],
    ['a zero-width space', 'a\u200bb'],
    ['a byte order mark inside', 'a\ufeffb'],
    ['a soft hyphen', 'a\u00adb'],
  ])('refuses %s in any cell', async (_, cell) => {
    expect(await codesOf(`login;nom\nada;${cell}\n`)).toEqual(['invisible-character']);
    expect(await codesOf(`login;nom\n${cell};x\n`)).toEqual(['invisible-character']);
  });

  it('refuses line breaks inside a cell, and counts such a row once', async () => {
    expect(await problemsOf('login;nom\nada;"a\r\nb"\nb b;x\n')).toMatchObject([{ row: 2, code: 'line-break' }, { row: 3, code: 'login-invalid' }]); // prettier-ignore
    expect(await codesOf('login;nom\nada;a\u2028b\n')).toEqual(['line-break']);
  });

  it('refuses letters that were lost in an earlier save', async () => {
    expect(await codesOf('login;nom\nada;B\u{fffd}renger\n')).toEqual(['letter-lost']);
  });

  it('refuses a NUL and names its line', async () => {
    expect(await problemsOf('login;nom\nada;a\0b\n')).toMatchObject([{ row: 2, code: 'nul-character' }]);
  });

  it('refuses a cell of more than 1,000 characters', async () => {
    expect(await codesOf(`login;nom\nada;${'x'.repeat(1001)}\n`)).toEqual(['cell-too-long']);
  });

  it.each([
    'a b',
    'a;b',
    '.ada',
    '-ada',
    '_ada',
    'ada@example.org',
    'a/b',
    "a'b",
    'ada$',
    '\u0430da',
    'ａda',
    '日本',
    'x'.repeat(65),
    '../etc',
  ])('refuses the login %j', async (login) => {
    expect(await problemsOf(`login\n"${login}"\n`)).toHaveLength(1);
  });

  it.each(['21904512', 'ada.lovelace', 'a-b_c', 'Élodie', 'x'.repeat(64)])(
    'takes the login %j',
    async (login) => {
      expect((await read(`login\n${login}\n`)).rows[0]?.login).toBe(login);
    },
  );

  it.each([
    'a',
    'a@b',
    'a@b..org',
    'a b@c.org',
    'a@@b.org',
    'a@b.org,c@d.org',
    '"a"@b.org',
    `${'a'.repeat(65)}@b.org`,
    'é@b.org',
  ])('refuses the address %j', async (email) => {
    expect(await codesOf(`login\tmail\nada\t"${email.replaceAll('"', '""')}"\n`)).toEqual(['email-invalid']);
  });
});

describe('a file that is no roster', () => {
  it.each([
    ['nothing', ''],
    ['only a byte order mark', '\u{feff}'],
    ['only blank lines', '\r\n \n'],
  ])('refuses %s', async (_, content) => {
    expect(await codesOf(content)).toEqual(['file-empty']);
  });

  it('refuses separators without any text', async () => {
    expect(await codesOf(';;;\n;;\n')).toEqual(['file-empty']);
  });

  it('refuses a header without people', async () => {
    expect(await codesOf('login;nom\n')).toEqual(['nobody']);
  });

  it.each([
    ['a PDF document', Buffer.from('%PDF-1.7\n')],
    ['an old Excel file', Buffer.from([0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1, 0])],
    ['a PNG image', Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])],
    ['a JPEG image', Buffer.from([0xff, 0xd8, 0xff, 0xe0])],
    ['a web page (HTML)', Buffer.from('\n<html><table><tr><td>login')],
    ['a web page (HTML)', Buffer.from('\u{feff}<!DOCTYPE html>')],
    ['XML', Buffer.from('<?xml version="1.0"?><Workbook/>')],
    ['a gzip archive', Buffer.from([0x1f, 0x8b, 8, 0])],
    ['an RTF document', Buffer.from('{\\rtf1')],
  ])('names %s', async (what, bytes) => {
    expect(await problemsOf(bytes)).toMatchObject([
      { code: 'file-type', detail: expect.stringContaining(what) },
    ]);
  });

  it('refuses UTF-16 with and without a byte order mark', async () => {
    expect(await codesOf(utf16('login;nom\nada;L'))).toEqual(['file-utf16']);
    expect(await codesOf(utf16('login;nom\nada;L').subarray(2))).toEqual(['file-utf16']);
    expect(await codesOf(utf16('login;nom\nada;L').swap16())).toEqual(['file-utf16']);
  });

  it('says how many rows there are when there are 100,000', async () => {
    const lines = Array.from({ length: 100_000 }, (_, index) => `user${index};x`);
    expect(await problemsOf(['login;nom', ...lines].join('\n'))).toMatchObject([
      { code: 'too-many-rows', detail: expect.stringMatching(/100000 rows.*2000/) },
    ]);
  });

  it('refuses a million rows of separators without reading them', async () => {
    expect(await codesOf(`login;nom\n${';\n'.repeat(900_000)}`)).toEqual(['too-many-rows']);
  });

  it('refuses more than 64 columns and more than 2 MiB', async () => {
    expect(await codesOf(`login${';x'.repeat(64)}\nada${';y'.repeat(64)}\n`)).toEqual(['too-many-columns']);
    expect(await codesOf(`login\n${'x'.repeat(2 * 1024 * 1024)}`)).toEqual(['file-too-large']);
  });

  it('never repeats control characters of a header', async () => {
    const [problem] = await problemsOf('no\u001b[2Jm;x\na;b\n');
    expect(problem?.detail).not.toMatch(/\p{Cc}/u);
  });
});
