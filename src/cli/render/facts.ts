import { padText, terminalText, textWidth } from '../../core/terminal-text.js';

/** Names and values below each other; what has no value is left out. */
export function factLines(facts: Readonly<Record<string, string | number | null | undefined>>): string[] {
  const known = Object.entries(facts).filter(
    ([, value]) => value !== null && value !== undefined && value !== '',
  );
  const width = Math.max(0, ...known.map(([name]) => textWidth(name)));
  return known.map(([name, value]) => `${padText(name, width)}  ${terminalText(String(value))}`);
}

/** How long ago a time of the service was: `40 s`, `12 min`, `3 h`, `5 d`. */
export function sinceText(iso: string, nowMs = Date.now()): string {
  const seconds = Math.max(0, Math.round((nowMs - Date.parse(iso)) / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3_600)} h` : `${Math.round(seconds / 86_400)} d`;
}

/** A time of the service on the clock of this computer, to the minute. */
export function timeText(iso: string | null | undefined): string | undefined {
  if (iso === null || iso === undefined) return undefined;
  const at = new Date(iso);
  const two = (part: number): string => String(part).padStart(2, '0');
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
}
