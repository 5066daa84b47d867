/** What a benchmark prints: figures of one run, ratios first; `isMet` = every bound that it names holds. */
export interface BenchResult {
  readonly isMet: boolean;
  readonly [figure: string]: unknown;
}

/** Each file `test/bench/<name>.bench.ts` exports one. `args` = what stands behind the name on the command line. */
export type Bench = (args: readonly string[]) => Promise<BenchResult>;

/** Progress for whoever watches. */
export const say = (line: string): void => void process.stderr.write(`${line}\n`);

/** `p` from 0 to 1, nearest rank. 0 for no values. */
export function percentile(values: readonly number[], p: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(p * sorted.length) - 1))] ?? 0;
}

/** Rounded for people, as a number. */
export const round = (value: number, digits = 3): number => Number(value.toFixed(digits));
