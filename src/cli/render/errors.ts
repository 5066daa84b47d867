import { HatcheryError, type Problem } from '../../core/errors.js';
import { terminalText } from '../../core/terminal-text.js';
import type { Style } from './style.js';

/** Roster findings that are shown; the rest is counted. */
const MAX_PROBLEMS = 50;

/** An error for people: the sentence, every finding, the hint, then code and request id. */
export function errorText(error: HatcheryError, style: Style): string {
  const { hint } = error;
  const problems = isTold(error) ? [] : error.problems;
  const hidden = problems.length - MAX_PROBLEMS;
  const isSaid = problems.some((problem) => problem.hint === hint);
  const lines = [
    style.bad(terminalText(error.message)),
    ...problems.slice(0, MAX_PROBLEMS).map((problem) => `  ${problemLine(problem)}`),
    ...(hidden > 0 ? [`  and ${hidden} more`] : []),
    ...(isSaid || hint === undefined ? [] : [terminalText(hint)]),
    style.faint(`(${[errorCode(error), ...requestOf(error)].map(terminalText).join(', ')})`),
  ];
  return `${lines.join('\n')}\n`;
}

/** One finding about the whole, which the sentence has told already. */
function isTold({ message, hint, problems }: HatcheryError): boolean {
  const [only, ...others] = problems;
  if (!only || others.length > 0 || only.row !== undefined) return false;
  const isHintTold = only.hint === undefined || only.hint === hint;
  return isHintTold && message.includes(only.detail.replace(/[.]$/, ''));
}

/** The same for programs. */
export function errorJson(error: HatcheryError): Record<string, unknown> {
  const { requestId } = error.facts;
  return {
    error: {
      code: errorCode(error),
      detail: error.message,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      ...(error.problems.length === 0 ? {} : { errors: error.problems }),
      ...(requestId === undefined ? {} : { requestId }),
    },
  };
}

/** `row 7, column login: what is wrong -> what to write`. */
function problemLine({ row, column, detail, hint }: Problem): string {
  const place =
    row === undefined ? (column ?? '') : `row ${row}${column === undefined ? '' : `, column ${column}`}`;
  return terminalText(
    `${place === '' ? '' : `${place}: `}${detail}${hint === undefined ? '' : ` -> ${hint}`}`,
  );
}

/** The service's own code, which may be newer than our table. */
const errorCode = ({ code, facts }: HatcheryError): string =>
  typeof facts['code'] === 'string' ? facts['code'] : code;

const requestOf = ({ facts }: HatcheryError): string[] =>
  typeof facts['requestId'] === 'string' ? [`request ${facts['requestId']}`] : [];
