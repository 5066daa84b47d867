import type { ClusterCheck } from '../../client/types.gen.js';
import { padText, terminalText, textWidth } from '../../core/terminal-text.js';
import type { Style } from './style.js';

type Finding = ClusterCheck['findings'][number];

const WORDS: Readonly<Record<Finding['level'], string>> = { ok: 'ok', warn: 'LOOK', fail: 'WRONG' };
/** Longer subjects push their own line to the right and nobody else's. */
const SUBJECT_COLUMNS = 44;

/** The findings about one cluster, each with the command that mends it on the next line. */
export function clusterCheckText({ cluster, ok, findings }: ClusterCheck, style: Style): string {
  const width = Math.min(SUBJECT_COLUMNS, Math.max(0, ...findings.map(({ subject }) => textWidth(subject))));
  const count = (level: Finding['level']): number => findings.filter((one) => one.level === level).length;
  const [wrong, doubtful] = [count('fail'), count('warn')];
  const counts = [
    ...(wrong > 0 ? [`${wrong} wrong`] : []),
    ...(doubtful > 0 ? [`${doubtful} to look at`] : []),
    `${count('ok')} ok`,
  ];
  const title = `${terminalText(cluster)}: ${ok ? 'in order' : 'not in order'} (${counts.join(', ')})`;
  return `${[ok ? title : style.bad(title), ...findings.flatMap((one) => lines(one, width, style))].join('\n')}\n`;
}

function lines({ level, subject, detail, remedy }: Finding, width: number, style: Style): string[] {
  const word = padText(WORDS[level], 5);
  const said = terminalText(`${padText(subject, width)}  ${detail}`);
  return [
    `  ${level === 'fail' ? style.bad(word) : word}  ${said}`,
    ...(remedy === undefined ? [] : [style.faint(`         -> ${terminalText(remedy)}`)]),
  ];
}
