/** Emphasis that says nothing by itself: the words are there without it. */
export interface Style {
  bad(text: string): string;
  faint(text: string): string;
}

const sgr =
  (on: number, off: number) =>
  (text: string): string =>
    `\u001b[${on}m${text}\u001b[${off}m`;
const same = (text: string): string => text;

export const styleFor = (isColor: boolean): Style =>
  isColor ? { bad: sgr(31, 39), faint: sgr(2, 22) } : { bad: same, faint: same };
