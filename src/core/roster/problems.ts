import { HatcheryError, type Problem } from '../errors.js';

/** Throws `roster-invalid` with every finding; nothing of the roster is used. */
export function refuseRoster(problems: readonly Problem[]): never {
  const first = problems[0];
  const where = first?.row === undefined ? '' : ` (row ${first.row})`;
  const others = problems.length > 1 ? `, and ${problems.length - 1} more` : '';
  throw new HatcheryError(
    'roster-invalid',
    `Unable to read the roster: ${first?.detail.replace(/[.]$/, '') ?? 'it is empty'}${where}${others}`,
    {
      hint: first?.hint ?? 'Correct the cells named below and send the file again; nothing was created.',
      problems,
    },
  );
}

/** Text of the file as it may stand in a message: no control or invisible characters, at most 60 characters. */
export function quoted(text: string): string {
  const plain = text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '\u{fffd}');
  const characters = [...plain];
  return `"${characters.length > 60 ? `${characters.slice(0, 59).join('')}…` : plain}"`;
}

/** `A` for 1, `AA` for 27: the name that a spreadsheet gives a column. */
export function columnLetter(column: number): string {
  let rest = column;
  let letters = '';
  while (rest > 0) {
    letters = String.fromCharCode(65 + ((rest - 1) % 26)) + letters;
    rest = Math.floor((rest - 1) / 26);
  }
  return letters;
}
