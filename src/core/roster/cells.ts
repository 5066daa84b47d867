import { foldAccents } from '../fold-accents.js';
import { ROSTER_LIMITS } from './limits.js';
import { quoted } from './problems.js';
import { readSshKey } from './ssh-key.js';
import type { Cell, CellFault } from './table.js';

/** A checked value, or what is wrong with the cell. */
export type Checked<T> = { readonly value: T } | { readonly fault: CellFault };

const fault = (code: string, detail: string, hint: string): { fault: CellFault } => ({
  fault: { code, detail, hint },
});

/**
 * The plain text of a cell: NFC, without surrounding spaces; no-break spaces become spaces.
 * Refused: formulas, line breaks, control, bidi, zero-width and private characters, lost letters (U+FFFD), too long.
 */
export function plainText(cell: Cell, maxCharacters: number = ROSTER_LIMITS.cellCharacters): Checked<string> {
  if (typeof cell !== 'string') return { fault: cell };
  if (cell.length > maxCharacters) {
    return fault(
      'cell-too-long',
      `The cell has ${cell.length} characters; at most ${maxCharacters} are read.`,
      'Shorten it.',
    );
  }
  const text = cell
    .replace(/\p{Zs}/gu, ' ')
    .replace(/^ +/, '')
    .trimEnd();
  if (/[\r\n\p{Zl}\p{Zp}]/u.test(text)) {
    return fault('line-break', 'The cell has a line break.', 'Write it on one line.');
  }
  if (/^[=+\-@\t＝＋－＠]/u.test(text)) {
    return fault(
      'formula',
      `The cell begins with ${quoted(text.slice(0, 1))}, as a formula does.`,
      'Write the plain value, beginning with a letter or a digit.',
    );
  }
  const odd = /[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Cs}]/u.exec(text);
  if (odd) {
    const code = (odd[0].codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0');
    return fault(
      'invisible-character',
      `The cell has a control or invisible character (U+${code}).`,
      'Delete the cell and type it again.',
    );
  }
  if (text.includes('\u{fffd}')) {
    return fault(
      'letter-lost',
      'A letter of the cell was lost when the file was saved (�).',
      'Type it again and save the file as CSV UTF-8.',
    );
  }
  return { value: text.normalize('NFC') };
}

/** The form under which logins are the same: lower-case, plain letters. */
export const loginKey = (login: string): string => foldAccents(login).toLowerCase();

/** A login: letters (accents allowed), digits, dot, hyphen, underscore; at most 64 characters, the first a letter or digit. */
export function readLogin(cell: Cell): Checked<string> {
  const text = plainText(cell);
  if ('fault' in text) return text;
  const login = text.value;
  if (login === '')
    return fault(
      'login-missing',
      'The login is missing.',
      'Write the login of this person, or delete the row.',
    );
  const isPlain = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(foldAccents(login));
  // Full-width letters, ligatures and circled digits look like others and fold to them.
  if (isPlain && login.length <= 64 && login === login.normalize('NFKC')) return { value: login };
  const hint = login.includes('@')
    ? 'Write the login only, without the part from @ on.'
    : 'Write at most 64 letters, digits, dots, hyphens or underscores, beginning with a letter or digit, e.g. jdupont.';
  return fault('login-invalid', `${quoted(login)} is not a login.`, hint);
}

const EMAIL = /^[A-Za-z0-9._%+'-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+$/;

/** An address, or `undefined` for an empty cell. */
export function readEmail(cell: Cell): Checked<string | undefined> {
  const text = plainText(cell);
  if ('fault' in text) return text;
  if (text.value === '') return { value: undefined };
  if (text.value.length <= 254 && EMAIL.test(text.value)) return { value: text.value };
  return fault(
    'email-invalid',
    `${quoted(text.value)} is not an e-mail address.`,
    'Write one address such as jdupont@example.org, or leave the cell empty.',
  );
}

/** The public key of a cell as a list of none or one. The content of a refused cell is never repeated: it may be a private key. */
export function readSshKeys(cell: Cell): Checked<string[]> {
  if (typeof cell === 'string' && /PRIVATE KEY/i.test(cell.slice(0, 200))) {
    return fault(
      'ssh-key-private',
      'The cell holds a private key.',
      'Send the public key (one line from the .pub file), and make a new pair: this one is no longer secret.',
    );
  }
  const text = plainText(cell, ROSTER_LIMITS.sshKeyCharacters);
  if ('fault' in text) return text;
  if (text.value === '') return { value: [] };
  const key = readSshKey(text.value);
  return 'line' in key
    ? { value: [key.line] }
    : fault(
        'ssh-key-invalid',
        key.why,
        'Write one public key on one line, as in a .pub file: ssh-ed25519 AAAA... name',
      );
}
