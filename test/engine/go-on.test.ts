import { afterEach, expect, it } from 'vitest';
import type { AnyStep } from '../../src/plan/step.js';
import { EngineBench, Gate } from '../support/engine-bench.js';
import { Outside, use, workflow } from '../support/outside.js';

let bench: EngineBench;
afterEach(async () => bench.close());

/** Nobody relays: a step that has to go through the queue stays where it is. */
async function accepted(text: string, steps: readonly AnyStep[], outside: Outside): Promise<string> {
  bench = await EngineBench.start({ workflow: workflow(text), steps, effects: [outside.thing] });
  const [run] = await bench.accept(1);
  return run!.runId;
}

const idOf = async (key: string): Promise<string> =>
  (await bench.database.query<{ id: string }>('select id from steps where key = $1', [key]))[0]!.id;
/** Steps that wait to be handed to the queue. */
const outbox = async (): Promise<unknown[]> =>
  (
    await bench.database.query(
      `select key from outbox o join steps s on s.id = (o.payload ->> 'stepId')::uuid where o.kind = 'dispatch' and s.state <> 'done' order by key`,
    )
  ).map((row) => row['key']);

it('goes on to the end of a run in one hand, each step under its own epoch and with its own attempt', async () => {
  const outside = new Outside();
  const chain = use('one') + use('two', ['one']) + use('three', ['two']);
  const runId = await accepted(
    chain,
    ['one', 'two', 'three'].map((id) => outside.step(id)),
    outside,
  );
  const { engine } = await bench.worker();
  await engine.handle(await idOf('one'));
  expect(await bench.runState(runId)).toBe('done');
  expect(await outbox()).toEqual([]);
  expect(
    await bench.database.query(
      'select key, a.epoch, outcome from attempts a join steps s on s.id = a.step_id order by s.rank desc',
    ),
  ).toEqual(['one', 'two', 'three'].map((key) => ({ key, epoch: 1, outcome: 'done' })));
  expect(outside.made).toHaveLength(3);
});

it('leaves a step that needs a slot to the dispatcher, and of two others takes the one with the longer way to the end', async () => {
  const outside = new Outside();
  const fork =
    use('one') +
    use('slotted', ['one']) +
    use('short', ['one']) +
    use('long', ['one']) +
    use('last', ['long']);
  const runId = await accepted(
    fork,
    [
      outside.step('slotted', { slots: () => ['clones@x'] }),
      ...['one', 'short', 'long', 'last'].map((id) => outside.step(id)),
    ],
    outside,
  );
  const { engine } = await bench.worker();
  await engine.handle(await idOf('one'));
  expect(await bench.stepStates(runId)).toEqual({
    one: 'done',
    long: 'done',
    last: 'done',
    short: 'ready',
    slotted: 'ready',
  });
  expect(await outbox()).toEqual(['short']);
});

it('leaves a step that is made together with others to gather', async () => {
  const outside = new Outside();
  const coalesce = { key: () => 'server', windowMs: 1, max: 10, actMany: async () => [] };
  const runId = await accepted(
    use('one') + use('many', ['one']),
    [outside.step('one'), outside.step('many', { coalesce })],
    outside,
  );
  const { engine } = await bench.worker();
  await engine.handle(await idOf('one'));
  expect(await bench.stepStates(runId)).toEqual({ one: 'done', many: 'ready' });
  expect(await outbox()).toEqual([]);
});

/** `two` after `one`, and `one` stands at the gate. */
async function heldAtTheGate(outside: Outside): Promise<{ runId: string; gate: Gate }> {
  const gate = new Gate();
  const one = outside.step('one', {
    act: async () => {
      await gate.pass();
      return {};
    },
  });
  return {
    runId: await accepted(use('one') + use('two', ['one']), [one, outside.step('two')], outside),
    gate,
  };
}

it('goes on with nothing once it has to stop', async () => {
  const { runId, gate } = await heldAtTheGate(new Outside());
  const { engine } = await bench.worker();
  const work = engine.handle(await idOf('one'));
  await gate.reached;
  const stopped = engine.stop();
  gate.release();
  await Promise.all([work, stopped]);
  expect(await bench.stepStates(runId)).toEqual({ one: 'done', two: 'ready' });
  expect(await outbox()).toEqual(['two']);
});

it('goes on with the undo of a run that is wanted gone by now', async () => {
  const outside = new Outside();
  const { runId, gate } = await heldAtTheGate(outside);
  const { engine } = await bench.worker();
  const work = engine.handle(await idOf('one'));
  await gate.reached;
  const [machine] = await bench.database.query<{ id: string; name: string }>('select id, name from machines');
  await bench.batches.wantMachineGone({ ...machine!, runId }, 'test');
  gate.release();
  await work;
  expect(await bench.runState(runId)).toBe('cancelled');
  expect(await bench.stepStates(runId)).toEqual({ one: 'undone', two: 'skipped' });
  expect(outside.things.size).toBe(0);
});
