import { padText, terminalText, textWidth } from '../../core/terminal-text.js';

/** Names and values below each other; what has no value is left out. */
export function factLines(facts: Readonly<Record<string, string | number | null | undefined>>): string[] {
  const known = Object.entries(facts).filter(
    ([, value]) => value !== null && value !== undefined && value !== '',
  );
  const width = Math.max(0, ...known.map(([name]) => textWidth(name)));
  return known.map(([name, value]) => `${padText(name, width)}  ${terminalText(String(value))}`);
}

/** A time of the service on the clock of this computer, to the minute. */
export function timeText(iso: string | null | undefined): string | undefined {
  if (iso === null || iso === undefined) return undefined;
  const at = new Date(iso);
  const two = (part: number): string => String(part).padStart(2, '0');
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
}
