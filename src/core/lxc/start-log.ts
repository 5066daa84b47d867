/** What the log of a start that failed is about. */
export interface StartFailure {
  readonly why: string;
  /** A hook, or a file of one. */
  readonly isHook: boolean;
}

const LINES = 6;
const HOOK = /lxc\.hook\.|\bhooks?\b|\/var\/lib\/hatchery\//i;
/** What every such log ends in. */
const VERDICT = /^TASK ERROR: |^Failed to spawn container|Failed to spawn container "[0-9]+"$/;

/** Reads the end of the task log of a container that did not start: LXC says why in its own lines, the verdict only that it did not. */
export function readStartLog(lines: readonly string[]): StartFailure | undefined {
  const said = lines.filter((line) => line.trim() !== '' && !VERDICT.test(line)).slice(-LINES);
  if (said.length === 0) return undefined;
  return { why: said.join('; '), isHook: said.some((line) => HOOK.test(line)) };
}
