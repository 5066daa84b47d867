import { afterEach, expect, it } from 'vitest';
import { HatcheryError } from '../../src/core/errors.js';
import { changeRun } from '../../src/engine/engine.js';
import type { AnyStep } from '../../src/plan/step.js';
import { EngineBench, Gate } from '../support/engine-bench.js';
import { Outside, use, workflow, type Input } from '../support/outside.js';

let bench: EngineBench;
afterEach(async () => bench.close());

/** A step that makes a group which all machines share. */
const joining = (outside: Outside, act: (machineId: string) => Promise<object>): AnyStep =>
  outside.step('one', {
    retry: { attempts: 50, first: '20ms', max: '50ms' },
    locks: () => ['thing:group'],
    effects: () => [
      {
        kind: 'thing',
        version: 1,
        system: 'outside',
        key: 'group',
        payload: { name: 'group' },
        shared: true,
      },
    ],
    act: async ({ machine }: Input) => {
      outside.things.add('group');
      return act(machine.id);
    },
  });

const cancel = async (run: { runId: string }): Promise<void> => {
  await changeRun(bench.parts, run, (model) => model.wantGone());
};

it('a machine that joins while the last one removes the group waits for that, and makes it anew', async () => {
  const outside = new Outside();
  const gate = new Gate();
  const removing = {
    ...outside.thing,
    undo: async (payload: { name: string }, ...rest: never[]) => {
      await gate.pass();
      await outside.thing.undo(payload, ...(rest as [never, never]));
    },
  };
  bench = await EngineBench.start({
    workflow: workflow(use('one')),
    steps: [joining(outside, async () => ({}))],
    effects: [removing],
  });
  await bench.worker();
  bench.caretaker();
  const [last] = await bench.accept(1);
  await bench.untilAll([last!], 'done');
  await cancel(last!);
  await gate.reached;
  const [next] = await bench.accept(1);
  await bench.until('select max(tries) > 1 as ok from steps');
  expect([...outside.things]).toEqual(['group']);
  gate.release();
  await bench.untilAll([last!], 'cancelled');
  await bench.untilAll([next!], 'done');
  expect([...outside.things]).toEqual(['group']);
  await cancel(next!);
  await bench.untilAll([next!], 'cancelled');
  expect([...outside.things]).toEqual([]);
});

it('a group whose first maker failed belongs to those that came after it', async () => {
  const outside = new Outside();
  let broken: string | undefined;
  bench = await EngineBench.start({
    workflow: workflow(use('one')),
    steps: [
      joining(outside, async (machineId) => {
        if (machineId !== broken) return {};
        throw new HatcheryError('remote-refused', 'Unable to join: no', { retry: 'after-fix' });
      }),
    ],
    effects: [outside.thing],
  });
  const [first] = await bench.accept(1);
  broken = first!.machineId;
  await bench.worker();
  bench.caretaker();
  await bench.untilAll([first!], 'parked');
  expect(await bench.database.query('select state from effects')).toEqual([{ state: 'intended' }]);
  const [second] = await bench.accept(1);
  await bench.untilAll([second!], 'done');
  expect(await bench.database.query('select state from effects')).toEqual([{ state: 'confirmed' }]);
  await cancel(first!);
  await bench.untilAll([first!], 'cancelled');
  expect([...outside.things]).toEqual(['group']);
  await cancel(second!);
  await bench.untilAll([second!], 'cancelled');
  expect([...outside.things]).toEqual([]);
});
