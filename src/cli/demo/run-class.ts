import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BatchResults } from '../../client/types.gen.js';
import { checkJournal } from '../../simulators/journal/check.js';
import { classRoster } from './class-roster.js';
import type { DemoApi } from './class-run.js';
import { journalEnd, remoteCalls } from './journal-calls.js';
import type { DemoOptions } from './options.js';
import { demoReport, type DemoReport } from './report.js';

const CLASS = 'class-l3-info';
/** Read from `src/cli/demo` as well as from `dist/cli/demo`. */
const EXAMPLE = join(import.meta.dirname, '..', '..', '..', 'examples', `${CLASS}.csv`);

export interface ClassOptions extends DemoOptions {
  readonly journal: string;
  readonly log: (line: string) => void;
  /** Where the table of results goes. */
  readonly show: (results: BatchResults) => void;
}

/** Gives the class its machines and takes them away again when asked to; a kept class is only shown. */
export async function runClass(api: DemoApi, options: ClassOptions): Promise<DemoReport> {
  const { journal, log } = options;
  const from = await journalEnd(journal);
  const existing = await api.existing(CLASS);
  const made = existing ? { batch: existing, times: undefined } : await makeClass(api, options);
  // A kept class may have been cut off while it was being made.
  if (existing) await api.watch(existing, 'ready');
  const calls = await remoteCalls(journal, from);
  const results = await api.results(made.batch);
  options.show(results);
  let { collisions } = await checkJournal(journal);
  let left: number | undefined;
  if (options.deleteAfterwards) {
    log('Deleting the class ...');
    await api.watch(await api.delete(made.batch), 'deleted');
    const verdict = await checkJournal(journal, { expectNothingLeft: true });
    ({ collisions, left } = verdict);
    for (const item of verdict.leftItems) log(`left behind: ${item}`);
  }
  const { timeScale } = options;
  return demoReport({ results, times: made.times, calls, collisions, left, timeScale, journal });
}

async function makeClass(api: DemoApi, { blueprint, students, log }: ClassOptions) {
  const roster = classRoster(await readFile(EXAMPLE, 'utf8'), students);
  const { batch, acceptedAtMs } = await api.submit(CLASS, blueprint, roster);
  log(`The class of ${batch.counts.total} is accepted.`);
  const [ready] = await Promise.all([api.readyTimes(batch), api.watch(batch, 'ready')]);
  return {
    batch,
    times: { readyMs: ready.map((at) => at - acceptedAtMs), endMs: performance.now() - acceptedAtMs },
  };
}
