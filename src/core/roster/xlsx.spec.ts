import { readFileSync } from 'node:fs';
import { deflateRawSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { HatcheryError, type Problem } from '../errors.js';
import { readRoster, type Roster } from './roster.js';
import { cellAddress, scanSheet } from './sheet-scan.js';
import { listZip, storeZip, unpackEntry, ZipFault } from './zip.js';

const read = (bytes: Uint8Array): Promise<Roster> => readRoster({ name: 'class.xlsx', bytes });

async function problemsOf(bytes: Uint8Array): Promise<readonly Problem[]> {
  const error: unknown = await read(bytes).then(
    (roster) => new Error(`accepted ${roster.rows.length} rows`),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof HatcheryError)) throw error;
  for (const problem of error.problems) expect(problem.hint).toMatch(/\S/);
  return error.problems;
}
const codesOf = async (bytes: Uint8Array): Promise<string[]> =>
  (await problemsOf(bytes)).map(({ code }) => code);

const RELATIONS = 'http://schemas.openxmlformats.org/officeDocument/2006/relationships';

/** A workbook of one sheet; `cells` are rows of inline strings, or the whole XML of a cell when they begin with `<`. */
function workbook(
  cells: readonly (readonly string[])[],
  more: Readonly<Record<string, string>> = {},
): Buffer {
  const rows = cells.map((row, at) => {
    const inner = row.map((cell, column) => {
      const address = cellAddress(at + 1, column + 1);
      return cell.startsWith('<')
        ? cell.replace('<c', `<c r="${address}"`)
        : `<c r="${address}" t="inlineStr"><is><t>${cell}</t></is></c>`;
    });
    return `<row r="${at + 1}">${inner.join('')}</row>`;
  });
  return sheet(rows.join(''), more);
}

function sheet(rowsXml: string, more: Readonly<Record<string, string>> = {}): Buffer {
  const parts = {
    'xl/workbook.xml': `<workbook xmlns:r="${RELATIONS}"><sheets><sheet name="S" sheetId="1" r:id="rId1"/></sheets></workbook>`,
    'xl/_rels/workbook.xml.rels': `<Relationships><Relationship Id="rId1" Type="${RELATIONS}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>`,
    'xl/worksheets/sheet1.xml': `<worksheet><sheetData>${rowsXml}</sheetData></worksheet>`,
    ...more,
  };
  return storeZip(new Map(Object.entries(parts).map(([path, xml]) => [path, Buffer.from(xml)])));
}

describe('a workbook', () => {
  it('is read as Excel saves it: first tab, shared strings, ignored dates, a blank row, a number as login', async () => {
    const roster = await read(readFileSync('test/fixtures/roster.xlsx'));
    expect(roster.rows).toEqual([
      {
        row: 2,
        login: 'eberenger',
        loginKey: 'eberenger',
        lastName: 'Bérenger',
        firstName: 'Élodie',
        email: 'elodie.berenger@etu.example.org',
        group: 'L3-INFO-1',
        sshKeys: [],
      },
      {
        row: 4,
        login: '21904512',
        loginKey: '21904512',
        lastName: 'Œuvrard',
        firstName: 'Loïc',
        group: 'L3-INFO-1',
        sshKeys: [],
      },
      {
        row: 5,
        login: 'zdangely',
        loginKey: 'zdangely',
        lastName: 'D’Angély',
        firstName: 'Zoé',
        email: 'zoe@etu.example.org',
        sshKeys: [],
      },
    ]);
    expect(roster.notes).toEqual(['Ignored columns: Né le.']);
  });

  it('gets the same checks as CSV', async () => {
    expect(
      await problemsOf(
        workbook([
          ['Login', 'Nom'],
          ['ada', '=1'],
          ['ADA', 'x'],
        ]),
      ),
    ).toMatchObject([
      { row: 2, column: 'Nom', code: 'formula' },
      { row: 3, column: 'Login', code: 'login-twice' },
    ]);
  });

  it('shows formulas, errors, fractions and truth values as mistakes of their cells', async () => {
    const bytes = workbook([
      ['login', 'groupe'],
      ['ada', '<c t="str"><f>A2&amp;"x"</f><v>adax</v></c>'],
      ['bob', '<c t="e"><v>#N/A</v></c>'],
      ['cid', '<c><v>1.5</v></c>'],
      ['<c><v>1.2E+17</v></c>', 'G1'],
      ['dan', '<c t="b"><v>1</v></c>'],
    ]);
    expect((await problemsOf(bytes)).map(({ row, column, code }) => [row, column, code])).toEqual([
      [2, 'groupe', 'formula'],
      [3, 'groupe', 'error-cell'],
      [4, 'groupe', 'number-cell'],
      [5, 'login', 'number-cell'],
      [6, 'groupe', 'boolean-cell'],
    ]);
  });

  it('shows a login that became a date', async () => {
    const styles = '<styleSheet><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs></styleSheet>';
    const relations = `<Relationships><Relationship Id="rId1" Type="${RELATIONS}/worksheet" Target="/xl/worksheets/sheet1.xml"/><Relationship Id="rId2" Type="${RELATIONS}/styles" Target="styles.xml"/></Relationships>`;
    const bytes = workbook([['login'], ['<c s="1"><v>45000</v></c>']], {
      'xl/styles.xml': styles,
      'xl/_rels/workbook.xml.rels': relations,
    });
    expect(await codesOf(bytes)).toEqual(['date-cell']);
  });

  it('hides no control character behind the escapes of the format', async () => {
    expect(
      await codesOf(
        workbook([
          ['login', 'nom'],
          ['ada', 'a_x001B_[2J'],
        ]),
      ),
    ).toEqual(['invisible-character']);
    expect(
      await codesOf(
        workbook([
          ['login', 'nom'],
          ['ada', 'a&#10;b'],
        ]),
      ),
    ).toEqual(['line-break']);
  });

  it('does not read names of object internals as anything special', async () => {
    expect(
      (
        await read(
          workbook([
            ['__proto__', 'constructor', 'login'],
            ['x', 'y', 'ada'],
          ]),
        )
      ).rows,
    ).toHaveLength(1);
  });
});

describe('a workbook made to exhaust the reader', () => {
  it('is refused for its size before anything is unpacked', async () => {
    expect(await codesOf(Buffer.concat([workbook([['login']]), Buffer.alloc(5 * 1024 * 1024)]))).toEqual([
      'file-too-large',
    ]);
  });

  it('is refused when its directory says more than 50 MiB, or 1,000 parts', async () => {
    const big = withDirectory(workbook([['login'], ['ada']]), (view, at) =>
      view.setUint32(at + 24, 60 * 1024 * 1024, true),
    );
    expect(await problemsOf(big)).toMatchObject([
      { code: 'xlsx-unreadable', detail: expect.stringContaining('unpacks to') },
    ]);
    const parts = new Map(
      Array.from({ length: 1001 }, (_, index) => [`xl/p${index}.xml`, Buffer.from('x')] as const),
    );
    expect(await problemsOf(storeZip(parts))).toMatchObject([
      { detail: expect.stringContaining('1001 parts') },
    ]);
  });

  it('is refused when a part is larger than its directory says', () => {
    const bomb = deflateRawSync(Buffer.alloc(1_000_000));
    const zip = withDirectory(storeZip(new Map([['a', bomb]])), (view, at) => {
      view.setUint16(at + 10, 8, true);
      view.setUint32(at + 24, 1000, true);
    });
    const [entry] = listZip(zip, { entries: 10, unpackedBytes: 10_000 });
    expect(() => unpackEntry(zip, entry!)).toThrow(ZipFault);
  });

  it('is refused when its parts overlap, are encrypted, cut off or named twice', async () => {
    const good = workbook([['login'], ['ada']]);
    expect(await codesOf(withDirectory(good, (view, at) => view.setUint16(at + 8, 1, true)))).toEqual([
      'xlsx-unreadable',
    ]);
    expect(
      await codesOf(withDirectory(good, (view, at) => view.setUint32(at + 20, 4_000_000, true))),
    ).toEqual(['xlsx-unreadable']);
    expect(await codesOf(good.subarray(0, good.length - 30))).toEqual(['xlsx-unreadable']);
    expect(await codesOf(good.subarray(0, 100))).toEqual(['xlsx-unreadable']);
  });

  it('reads only the parts of the checked directory, not what hides between them', async () => {
    const good = workbook([['login'], ['ada']]);
    const other = workbook([['login'], ['mallory']]);
    const end = directoryStart(other);
    const shifted = withDirectory(good, (view, at) =>
      view.setUint32(at + 42, view.getUint32(at + 42, true) + end, true),
    );
    const joined = Buffer.concat([other.subarray(0, end), shifted]);
    joined.writeUInt32LE(directoryStart(shifted) + end, joined.length - 6);
    expect((await read(joined)).rows.map(({ login }) => login)).toEqual(['ada']);
  });

  it.each([
    [
      'a value in the last possible row',
      '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="A1048576"><v>1</v></c></row>',
      'row-too-far',
    ],
    ['a value in the last possible column', '<row r="1"><c r="XFD1"><v>1</v></c></row>', 'too-many-columns'],
    ['an address written in another way', '<row r="1"><c r="&#65;1"><v>1</v></c></row>', 'xlsx-unreadable'],
    ['a second address', '<row r="1"><c r="A1" x:r="XFD1048576"><v>1</v></c></row>', 'xlsx-unreadable'],
    [
      'an address behind a quoted bracket',
      '<row r="1"><c a=">" r="XFD1048576"><v>1</v></c></row>',
      'too-many-columns',
    ],
    ['a document type', '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>', 'xlsx-unreadable'],
    [
      '100,000 rows',
      Array.from(
        { length: 100_000 },
        (_, at) => `<row r="${at + 1}"><c r="A${at + 1}"><v>${at}</v></c></row>`,
      ).join(''),
      'too-many-rows',
    ],
  ])('is refused for %s', async (_, xml, code) => {
    expect(await codesOf(sheet(xml))).toEqual([code]);
  });

  it('is refused when one part is much larger than a class list', async () => {
    const strings = `<sst>${'<si/>'.repeat(4_000_000)}</sst>`;
    const bytes = withDirectory(
      workbook([['login'], ['ada']], { 'xl/sharedStrings.xml': strings.slice(0, 100) }),
      (view, at) => {
        if (view.getUint32(at + 24, true) === 100) view.setUint32(at + 24, strings.length, true);
      },
    );
    expect(await problemsOf(bytes)).toMatchObject([
      { code: 'xlsx-unreadable', detail: expect.stringContaining('a part unpacks to') },
    ]);
  });

  it.each([
    [
      'one cell of millions of characters',
      sheet(`<row r="1"><c r="A1" t="inlineStr"><is><t>${'&amp;'.repeat(900_000)}</t></is></c></row>`),
    ],
    [
      'a tag of a hundred thousand attributes',
      sheet(
        `<row r="1" ${Array.from({ length: 100_000 }, (_, at) => `a${at}=""`).join(' ')}><c r="A1"><v>1</v></c></row>`,
      ),
    ],
    [
      'a shared text of millions of characters',
      workbook([['login'], ['ada']], {
        'xl/sharedStrings.xml': `<sst><si><t>${'&amp;'.repeat(900_000)}</t></si></sst>`,
      }),
    ],
    ['tags in tags in tags', sheet(`${'<a>'.repeat(600_000)}${'</a>'.repeat(600_000)}`)],
  ])('is refused for %s, before the library could brood over it for minutes', async (_, bytes) => {
    expect(await problemsOf(bytes)).toMatchObject([
      { code: 'xlsx-unreadable', detail: expect.stringMatching(/no class list (has|does)/) },
    ]);
  });

  it('is refused for endless formatted cells, or told its rows when they are people', async () => {
    const grid = (rows: number, columns: number, value: string): string =>
      Array.from({ length: rows }, (_, row) => {
        const cells = Array.from(
          { length: columns },
          (_, column) => `<c r="${cellAddress(row + 1, column + 1)}">${value}</c>`,
        );
        return `<row r="${row + 1}">${cells.join('')}</row>`;
      }).join('');
    expect(scanSheet(grid(5000, 60, '')).problem?.code).toBe('too-many-cells');
    expect(scanSheet(grid(50_001, 6, '<v>1</v>')).problem?.detail).toContain('50000 rows');
  });

  it('is refused, not crashed on, when its XML is damaged', async () => {
    for (const xml of [
      '<row r="1"><c r="A1" t="s"><v>99</v></c></row>',
      '<row r="1"><c r="A1"',
      '<row r="2"/><row r="1"/>',
      '',
    ]) {
      expect(await problemsOf(sheet(xml))).toHaveLength(1);
    }
  });
});

describe('another kind of container', () => {
  it.each([
    [
      'an OpenDocument spreadsheet',
      { mimetype: 'application/vnd.oasis.opendocument.spreadsheet', 'content.xml': 'x' },
    ],
    ['a Word document', { 'word/document.xml': 'x' }],
    ['a presentation', { 'ppt/presentation.xml': 'x' }],
    ['macros', { 'xl/workbook.xml': 'x', 'xl/vbaProject.bin': 'x' }],
    ['a binary Excel workbook', { 'xl/workbook.bin': 'x' }],
    ['a ZIP archive', { 'list.csv': 'login\nada' }],
  ])('is named: %s', async (what, parts) => {
    const bytes = storeZip(new Map(Object.entries(parts).map(([path, text]) => [path, Buffer.from(text)])));
    expect(await problemsOf(bytes)).toMatchObject([
      { code: 'file-type', detail: expect.stringContaining(what) },
    ]);
  });
});

function directoryStart(zip: Buffer): number {
  return zip.readUInt32LE(zip.length - 6);
}

/** A copy in which every entry of the central directory is changed. */
function withDirectory(zip: Buffer, change: (view: DataView, at: number) => void): Buffer {
  const copy = Buffer.from(zip);
  const view = new DataView(copy.buffer, copy.byteOffset, copy.byteLength);
  for (let at = directoryStart(zip); view.getUint32(at, true) === 0x02014b50;) {
    const next = at + 46 + view.getUint16(at + 28, true);
    change(view, at);
    at = next;
  }
  return copy;
}
