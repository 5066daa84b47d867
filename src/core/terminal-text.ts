/** Control sequences of terminals (ECMA-48): CSI, strings (OSC, DCS, SOS, PM, APC) up to their end, other escapes. */
const SEQUENCES =
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  /(?:\u001b\[|\u009b)[0-?]*[ -/]*[@-~]?|(?:\u001b[\]PX^_]|[\u009d\u0090\u0098\u009e\u009f])[^\u0007\u001b\u009c]*(?:\u0007|\u001b\\|\u009c)?|\u001b[ -/]*[0-~]?/g;

/**
 * Text from people or remote systems as it may be shown in a terminal: one line, without control sequences, control, bidi and
 * zero-width characters. Line breaks and tabs become spaces.
 */
export function terminalText(text: string): string {
  return text
    .replace(/[\t\r\n\u0085\u2028\u2029]+/g, ' ')
    .replace(SEQUENCES, '')
    .replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cs}]/gu, '');
}

const COMBINING = /^[\p{Mn}\p{Me}]$/u;
/** Wide in East Asian fonts, and emoji. */
const WIDE =
  /^[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\p{Emoji_Presentation}\u{20000}-\u{3fffd}]$/u;

/** Columns that a text takes in a terminal. */
export function textWidth(text: string): number {
  let width = 0;
  for (const character of text) width += characterWidth(character);
  return width;
}

/** The text cut to at most `columns` columns; `…` shows that something is missing. */
export function truncateText(text: string, columns: number): string {
  if (textWidth(text) <= columns) return text;
  let kept = '';
  let width = 0;
  for (const character of text) {
    width += characterWidth(character);
    if (width > columns - 1) break;
    kept += character;
  }
  return columns < 1 ? '' : `${kept}…`;
}

/** The text filled up with spaces to `columns` columns, on the right or, for numbers, on the left. Longer text stays as it is. */
export function padText(text: string, columns: number, align: 'left' | 'right' = 'left'): string {
  const spaces = ' '.repeat(Math.max(0, columns - textWidth(text)));
  return align === 'left' ? text + spaces : spaces + text;
}

function characterWidth(character: string): number {
  if (character >= ' ' && character <= '~') return 1;
  if (COMBINING.test(character)) return 0;
  return WIDE.test(character) ? 2 : 1;
}
