import { XMLParser } from 'fast-xml-parser';

const HEADER = '#< CLIXML';
const parser = new XMLParser({
  ignoreAttributes: false,
  attributeNamePrefix: '@',
  parseTagValue: false,
  trimValues: false,
  alwaysCreateTextNode: true,
  isArray: (name) => name === 'S',
});

/**
 * The error text in what powershell.exe wrote to stderr: plain text as it is, of CLIXML the error records.
 * Progress, warnings and verbose records are not errors: empty text.
 */
export function errorText(stderr: string): string {
  const at = stderr.indexOf(HEADER);
  if (at < 0) return tidy(stderr);
  const before = stderr.slice(0, at);
  const objects = (
    parser.parse(stderr.slice(at + HEADER.length)) as { Objs?: { S?: Record<string, unknown>[] } }
  ).Objs;
  const records = (objects?.S ?? [])
    .filter((record) => record['@S'] === 'Error')
    .map((record) => (typeof record['#text'] === 'string' ? record['#text'] : ''));
  return tidy(before + records.map(decodeEscapes).join(''));
}

/** `_x000D_` stands for a character that XML cannot hold. */
function decodeEscapes(text: string): string {
  return text.replace(/_x([0-9A-Fa-f]{4})_/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

/** One printable line: the text comes from afar and ends in messages. */
function tidy(text: string): string {
  return text
    .replace(/[\s\p{Cc}]+/gu, ' ')
    .trim()
    .slice(0, 1_000);
}
