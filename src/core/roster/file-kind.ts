import type { Problem } from '../errors.js';

export type FileKind =
  { readonly kind: 'text' | 'zip' } | { readonly kind: 'refused'; readonly problem: Problem };

const SAVE_AS =
  'Open the list in a spreadsheet program and save it as CSV UTF-8 (.csv) or as Excel workbook (.xlsx).';

/** First bytes (Latin-1) of files that people send by mistake. */
const MAGIC: readonly (readonly [prefix: string, what: string])[] = [
  ['%PDF', 'a PDF document'],
  ['\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1', 'an old Excel file (.xls) or a workbook with a password'],
  ['\x89PNG', 'a PNG image'],
  ['\xff\xd8\xff', 'a JPEG image'],
  ['GIF8', 'a GIF image'],
  ['RIFF', 'an image or a sound'],
  ['II*\0', 'a TIFF image'],
  ['MM\0*', 'a TIFF image'],
  ['BM', 'a BMP image'],
  ['\x1f\x8b', 'a gzip archive'],
  ['7z\xbc\xaf', 'a 7z archive'],
  ['Rar!', 'a RAR archive'],
  ['{\\rtf', 'an RTF document'],
  ['\x7fELF', 'a program'],
  ['MZ', 'a program'],
  ['SQLite format 3', 'a database'],
];

/** Two letters may begin a CSV header too; a NUL close behind them is what tells. */
const NEEDS_NUL = new Set(['BM', 'MZ', 'RIFF']);

/** Tells text from a ZIP container and names other kinds of files by their first bytes; the file's name is not believed. */
export function fileKind(bytes: Uint8Array): FileKind {
  const head = Buffer.from(bytes.subarray(0, 512)).toString('latin1');
  if (head.replace(/^\xef\xbb\xbf/, '').trim() === '' && !hasText(bytes))
    return refused('file-empty', 'The file is empty.');
  if (head.startsWith('\xff\xfe') || head.startsWith('\xfe\xff') || isUtf16(head)) {
    return refused('file-utf16', 'The file is text in UTF-16 ("Unicode text"), which is not read.');
  }
  if (head.startsWith('PK\x03\x04')) return { kind: 'zip' };
  if (head.startsWith('PK\x05\x06'))
    return refused('file-type', 'The file is an empty ZIP archive, not a roster.');
  for (const [prefix, what] of MAGIC) {
    if (head.startsWith(prefix) && (!NEEDS_NUL.has(prefix) || head.includes('\0'))) {
      return refused('file-type', `The file is ${what}, not a roster.`);
    }
  }
  const start = head
    .replace(/^\xef\xbb\xbf/, '')
    .trimStart()
    .toLowerCase();
  if (/^<(!doctype html|html|head|body|table|meta|script)/.test(start)) {
    return refused(
      'file-type',
      'The file is a web page (HTML), not a roster. Some web sites export tables as HTML under the name .xls.',
    );
  }
  if (start.startsWith('<?xml') || start.startsWith('<svg'))
    return refused('file-type', 'The file is XML, not a roster.');
  return { kind: 'text' };
}

function refused(code: string, detail: string): FileKind {
  return { kind: 'refused', problem: { code, detail, hint: SAVE_AS } };
}

/** UTF-16 without a byte order mark: Western text has a NUL as every second byte. */
function isUtf16(head: string): boolean {
  const pairs = head.slice(0, 64).match(/../gs) ?? [];
  const low = pairs.filter((pair) => pair[1] === '\0' && pair[0] !== '\0').length;
  const high = pairs.filter((pair) => pair[0] === '\0' && pair[1] !== '\0').length;
  return pairs.length >= 4 && Math.max(low, high) > pairs.length * 0.8;
}

function hasText(bytes: Uint8Array): boolean {
  return bytes.subarray(3).some((byte) => byte !== 0x20 && byte !== 0x09 && byte !== 0x0a && byte !== 0x0d);
}
