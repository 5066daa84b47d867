import { afterEach, expect, it } from 'vitest';
import { z } from 'zod';
import { changeRun } from '../../src/engine/engine.js';
import { EngineWorker } from '../../src/engine/worker.js';
import type { AnyStep } from '../../src/plan/step.js';
import { EngineBench } from '../support/engine-bench.js';
import { Outside, use, workflow, type Input } from '../support/outside.js';

let bench: EngineBench | undefined;
afterEach(async () => {
  await bench?.close();
  bench = undefined;
});

it('what the queue gives to workers that do not know it goes straight to one that does, and to the others never again', async () => {
  const outside = new Outside();
  const of = (version: number): AnyStep => outside.step('one', { version });
  const old = (bench = await EngineBench.start({
    workflow: workflow(use('one')),
    steps: [of(1)],
    effects: [outside.thing],
    // Nothing is lost here: whatever goes into the queue a second time shows.
    times: { overdueMs: 60_000 },
  }));
  const newer = await old.otherBuild({
    workflow: workflow(use('one')),
    steps: [of(2)],
    effects: [outside.thing],
  });
  // The queue serves the older build only.
  await old.worker();
  const knows = new EngineWorker(newer.parts);
  await knows.start();
  const runs = await newer.accept(30);
  old.caretaker();
  await old.untilAll(runs, 'done');
  await knows.stop();
  expect(outside.made).toHaveLength(30);
  const handOvers = await old.database.query(
    'select max(dispatch) as most, sum(epoch)::int as claims from steps',
  );
  expect(handOvers).toEqual([{ most: 1, claims: 30 }]);
});

it('what was passed on in vain, because nobody heard of it, is handed over again', async () => {
  const outside = new Outside();
  bench = await EngineBench.start({
    workflow: workflow(use('one')),
    steps: [outside.step('one')],
    effects: [outside.thing],
  });
  await bench.worker();
  const runs = await bench.accept(1);
  const { store } = bench.parts;
  await store.relay(async () => {}, 10);
  const [step] = await bench.database.query<{ id: string }>('select id from steps');
  await store.passOn(step!.id);
  bench.caretaker();
  await bench.untilAll(runs, 'done');
});

it('a step whose input this build cannot read waits for another build, and nothing that is made is undone', async () => {
  const outside = new Outside();
  const changed = z.object({ machine: z.object({ id: z.string(), fromAnotherBuild: z.string() }) });
  bench = await EngineBench.start({
    workflow: workflow(use('one') + use('two', ['one'])),
    steps: [outside.step('one'), outside.step('two', { input: changed })],
    effects: [outside.thing],
  });
  await bench.worker();
  const runs = await bench.accept(1);
  bench.caretaker();
  await bench.untilAll(runs, 'parked');
  expect(outside.things.size).toBe(1);
  const [step] = await bench.database.query<{ error: { message: string } }>(
    `select error from steps where state = 'parked'`,
  );
  expect(step!.error.message).toContain('Unable to begin step two: this build cannot read its input');
});

it('an older and a newer build side by side each do what they know, through a roll forward and back', async () => {
  const outside = new Outside();
  const acts: string[] = [];
  /** A step of one build: its effect has the version of its payload. */
  const step = (build: string, id: string, version: number, payload: number): AnyStep =>
    outside.step(id, {
      version,
      effects: ({ machine }: Input) => [
        {
          kind: 'thing',
          version: payload,
          system: 'outside',
          key: `${id}/${machine.id}`,
          payload: { name: `${id}/${machine.id}` },
        },
      ],
      act: async ({ machine }: Input) => {
        acts.push(`${build} ${id}@${version}`);
        outside.things.add(`${id}/${machine.id}`);
        return {};
      },
    });
  const newThing = { ...outside.thing, version: 2 };
  const old = (bench = await EngineBench.start({
    workflow: workflow(use('one') + use('two', ['one'])),
    steps: [step('old', 'one', 1, 1), step('old', 'two', 1, 1)],
    effects: [outside.thing],
  }));
  // The newer one knows how to undo what the older made; its second step and its payloads are new, and so is its workflow.
  const newer = await old.otherBuild({
    workflow: workflow(use('one') + use('two', ['one']) + use('three', ['two'])),
    steps: [step('new', 'one', 1, 1), step('new', 'two', 2, 2), step('new', 'three', 1, 2)],
    effects: [outside.thing, newThing],
  });
  const oldWorker = await old.worker();
  const newWorker = await newer.worker();
  const before = await old.accept(3);
  const after = await newer.accept(3);
  // Nobody keeps the queue: each due step is offered to both, whoever comes first.
  const over = 'select 1 from runs where finished_at is null';
  for (let rounds = 0; (await old.database.query(over)).length > 0; rounds += 1) {
    expect(rounds).toBeLessThan(10);
    const due = await old.database.query<{ id: string }>(
      `select id from steps where state = 'ready' and worker_id is null`,
    );
    const workers = rounds % 2 === 0 ? [oldWorker, newWorker] : [newWorker, oldWorker];
    for (const { id } of due) await Promise.all(workers.map(({ engine }) => engine.handle(id)));
  }
  await old.untilAll([...before, ...after], 'done');
  old.caretaker();
  const count = (what: string): number => acts.filter((act) => act === what).length;
  // Each run kept the plan that it was accepted with, and each step went to a build that knows its version.
  expect([count('old two@1'), count('new two@2'), count('new three@1')]).toEqual([3, 3, 3]);
  expect(acts).toHaveLength(3 * 2 + 3 * 3);

  // Forward: the older build is gone, what it made is undone all the same.
  await oldWorker.stop();
  const gone = async (runs: readonly { runId: string }[]): Promise<void> => {
    for (const run of runs) await changeRun(old.parts, { runId: run.runId }, (model) => model.wantGone());
  };
  await gone(before);
  await old.untilAll(before, 'cancelled');

  // Back: the older build does not know what the newer made, and touches nothing of it; a person is told.
  await newWorker.stop();
  await old.worker();
  await gone(after);
  // Half a minute goes by; a worker that passes a step on at this moment writes its row, too.
  const waitsLong = async (): Promise<unknown[]> => {
    await old.database.query(`update steps set due_at = now() - interval '1 minute' where state = 'undoing'`);
    return old.database.query(`select 1 from runs where state = 'parked'`);
  };
  await expect.poll(waitsLong).toHaveLength(3);
  expect(outside.things.size).toBe(9);
  const [machine] = await old.database.query<{ error: { message: string; hint: string } }>(
    `select m.error from machines m join runs r on r.machine_id = m.id where r.id = $1`,
    [after[0]!.runId],
  );
  expect(machine!.error.message).toContain('no live worker knows');
  expect(machine!.error.hint).toContain(`hatchery run retry ${after[0]!.runId}`);

  await newer.worker();
  for (const run of after) await changeRun(newer.parts, { runId: run.runId }, (model) => model.retry());
  await old.untilAll(after, 'cancelled');
  expect([...outside.things]).toEqual([]);
});
