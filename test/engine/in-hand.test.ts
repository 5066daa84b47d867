import { afterEach, beforeEach, expect, it } from 'vitest';
import { changeRun } from '../../src/engine/engine.js';
import { RunModel } from '../../src/engine/run-model.js';
import type { HeldStep, LoadedRun } from '../../src/ports/run-store.js';
import { EngineBench, Gate } from '../support/engine-bench.js';
import { Outside, use, workflow } from '../support/outside.js';

interface InHand {
  readonly runId: string;
  readonly held: HeldStep;
  readonly loaded: LoadedRun;
}

const WORKER = { id: crypto.randomUUID(), isAlone: false };

let bench: EngineBench;
beforeEach(async () => {
  const outside = new Outside();
  bench = await EngineBench.start({
    workflow: workflow(use('one') + use('two', ['one'])),
    steps: ['one', 'two'].map((id) => outside.step(id)),
    effects: [outside.thing],
  });
  await bench.parts.store.registerWorker({ id: WORKER.id, host: 'h', pid: 1, versions: [], leaseMs: 60_000 });
});
afterEach(async () => bench.close());

/** A run whose first step is claimed, as its worker has it in hand. */
async function claimed(): Promise<InHand> {
  const [run] = await bench.accept(1);
  const { runId } = run!;
  const [step] = await bench.database.query<{ id: string }>(
    `select id from steps where run_id = $1 and key = 'one'`,
    [runId],
  );
  const answer = await changeRun(bench.parts, { runId }, (model, loaded) => ({
    held: model.claim(step!.id, WORKER) as HeldStep,
    loaded,
  }));
  return { runId, ...answer! };
}

/** Ends the step; gives whether that was written without reading the run. */
async function end({ held, loaded }: InHand, output: unknown = { ok: true }): Promise<boolean> {
  return (await bench.parts.store.changeInHand(loaded, ended(held, output))) !== undefined;
}

const PACE = { settleMs: 0, backOffScale: 1, waitLimitMs: 0, place: () => 0, random: Math.random };
const ended = (held: HeldStep, output: unknown) => (loaded: LoadedRun) => {
  const model = new RunModel(loaded, bench.parts, PACE);
  model.done(held, output, {});
  return { changes: model.changes, result: undefined };
};

const stepsOf = async (runId: string): Promise<Record<string, string>> => bench.stepStates(runId);

it('writes the end of a step and what it makes due in one statement', async () => {
  const run = await claimed();
  const before = bench.database.statements;
  expect(await end(run)).toBe(true);
  expect(bench.database.statements - before).toBe(1);
  expect(await stepsOf(run.runId)).toEqual({ one: 'done', two: 'ready' });
});

it.each<[string, (run: InHand) => Promise<unknown>]>([
  [
    'was changed by somebody else',
    ({ runId, held }) => changeRun(bench.parts, { runId }, (model) => model.handOver(held)),
  ],
  [
    'is wanted gone',
    async () =>
      bench.batches.wantBatchGone((await bench.batches.findBatch('bench', undefined))!, 'test', false),
  ],
  [
    'is on a cluster that was stopped',
    () => bench.parts.stops.stop('main', 'paused', { code: 'cluster-paused', message: 'Unable to go on' }),
  ],
  [
    'has a step like one that was parked elsewhere',
    async () => {
      const other = await claimed();
      await bench.database.query(`update steps set state = 'parked', worker_id = null where id = $1`, [
        other.held.stepId,
      ]);
    },
  ],
])('writes nothing of a run that %s', async (_what, meanwhile) => {
  const run = await claimed();
  await meanwhile(run);
  const states = await stepsOf(run.runId);
  expect(await end(run)).toBe(false);
  expect(await stepsOf(run.runId)).toEqual(states);
});

it('does not wait for a run that somebody has locked, nor keep the others waiting', async () => {
  const [locked, other] = [await claimed(), await claimed()];
  const gate = new Gate();
  const holder = bench.database.transaction(async (queries) => {
    await queries.query('select 1 from runs where id = $1 for update', [locked.runId]);
    await gate.pass();
  });
  await gate.reached;
  expect(await Promise.all([end(locked), end(other)])).toEqual([false, true]);
  gate.release();
  await holder;
});

it('writes many in one statement, and one that Postgres refuses takes nothing from the others', async () => {
  const runs = [await claimed(), await claimed(), await claimed()];
  const before = bench.database.statements;
  // A text that jsonb cannot hold.
  const answers = await Promise.all(runs.map((run, index) => end(run, index === 1 ? { text: '\0' } : {})));
  expect(bench.database.statements - before).toBe(1);
  expect(answers).toEqual([false, false, false]);
  for (const { runId, held } of [runs[0]!, runs[2]!]) {
    await changeRun(bench.parts, { runId }, (model) => model.done(held, {}, {}));
    expect(await stepsOf(runId)).toEqual({ one: 'done', two: 'ready' });
  }
});

it('writes one of two changes that were made of the same state', async () => {
  const run = await claimed();
  expect(await Promise.all([end(run), end(run)])).toEqual([true, false]);
  expect(await end(run)).toBe(false);
});
