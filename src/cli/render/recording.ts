import type { RecordingDifference } from '../../core/cluster-recording.js';
import { terminalText } from '../../core/terminal-text.js';

/** Differences by what they are about, in the order in which they were found. */
export function differencesText(
  differences: readonly RecordingDifference[],
  left: string,
  right: string,
): string {
  if (differences.length === 0) return 'No differences.\n';
  const subjects = [...new Set(differences.map(({ subject }) => subject))];
  const blocks = subjects.map((subject) =>
    [
      terminalText(subject),
      ...differences
        .filter((one) => one.subject === subject)
        .map(({ detail }) => `  ${terminalText(detail)}`),
    ].join('\n'),
  );
  return `${terminalText(`left = ${left}, right = ${right}`)}\n\n${blocks.join('\n')}\n`;
}
