import { afterEach, describe, expect, it } from 'vitest';
import { HatcheryError } from '../../src/core/errors.js';
import { PostgresDurations } from '../../src/drivers/postgres/step-durations.js';
import { changeRun } from '../../src/engine/engine.js';
import { StepWait, type AnyStep } from '../../src/plan/step.js';
import type { StepDurations } from '../../src/ports/durations.js';
import { EngineBench } from '../support/engine-bench.js';
import { Outside, use, workflow } from '../support/outside.js';

let bench: EngineBench;
afterEach(async () => bench.close());

const RUNS = 12;

/** A bench whose runs are this step after another one, so that a worker goes on with it. */
async function benchOf(step: (outside: Outside) => AnyStep): Promise<void> {
  const outside = new Outside();
  bench = await EngineBench.start({
    workflow: workflow(use('zero') + use('one', ['zero'])),
    steps: [outside.step('zero'), step(outside)],
    effects: [outside.thing],
  });
  bench.caretaker();
  await bench.worker();
}
const process = (): PostgresDurations =>
  new PostgresDurations(bench.database, { refreshMs: 0, now: () => 0 });
/** Events above the oldest transaction of the whole server, other tests' included, are read when that one has ended. */
async function learnAll(durations: PostgresDurations): Promise<void> {
  for (;;) {
    while (await durations.learn());
    const [unread] = await bench.database.query(
      'select 1 from events e, step_durations_place p where (e.xid, e.seq) > (p.xid, p.seq) limit 1',
    );
    if (!unread) return;
    await bench.parts.clock.sleep(5);
  }
}
const allLearn = async (): Promise<unknown> =>
  Promise.all(Array.from({ length: 10 }, () => learnAll(process())));
const learned = (): Promise<StepDurations | undefined> => process().of('main', 'bench', 'one');

describe('durations of steps', () => {
  it('are counted once each, though ten count at the same time and again', async () => {
    await benchOf((outside) => outside.step('one'));
    await bench.untilAll(await bench.accept(RUNS), 'done');
    await allLearn();
    await learnAll(process());
    expect((await learned())?.count).toBe(RUNS);
    await bench.untilAll(await bench.accept(RUNS), 'done');
    await allLearn();
    expect((await learned())?.count).toBe(2 * RUNS);
  });

  it('leave out the time in the line for a slot', async () => {
    const workMs = 60;
    const outside = new Outside();
    bench = await EngineBench.start({
      workflow: workflow(use('one')),
      steps: [
        outside.step('one', {
          slots: () => ['clones@x'],
          act: async () => {
            await bench.parts.clock.sleep(workMs);
            return {};
          },
        }),
      ],
      effects: [outside.thing],
      limitOf: () => 1,
    });
    bench.caretaker();
    await bench.worker();
    await bench.untilAll(await bench.accept(RUNS), 'done');
    await learnAll(process());
    const [line] = await bench.database.query<{ ms: number }>(
      'select max(extract(epoch from s.finished_at - r.created_at) * 1000)::int as ms from steps s join runs r on r.id = s.run_id',
    );
    const took = (await learned())!.took.medianMs;
    expect(took).toBeGreaterThanOrEqual(workMs);
    expect(took).toBeLessThan(line!.ms / 2);
  });

  it('tell between which two looks something came, not when a late look found it', async () => {
    const looks = new Map<string, number>();
    await benchOf((outside) =>
      outside.step('one', {
        effects: () => [],
        act: async ({ machine }) => {
          const nth = (looks.get(machine.id) ?? 0) + 1;
          looks.set(machine.id, nth);
          return nth < 3 ? new StepWait(200, 'not yet') : {};
        },
      }),
    );
    await bench.untilAll(await bench.accept(RUNS), 'done');
    await learnAll(process());
    const { took, came } = (await learned())!;
    expect(came.came.isUpperEnd).toBe(false);
    expect(came.came.medianMs).toBeGreaterThan(200);
    expect(came.came.medianMs).toBeLessThan(took.medianMs);
  });

  it('know only an upper end when the first look found everything', async () => {
    const looked = new Set<string>();
    await benchOf((outside) =>
      outside.step('one', {
        effects: () => [],
        act: async ({ machine }) => {
          if (looked.has(machine.id)) return {};
          looked.add(machine.id);
          return new StepWait(100, 'not yet');
        },
      }),
    );
    await bench.untilAll(await bench.accept(RUNS), 'done');
    await learnAll(process());
    expect((await learned())!.came).toMatchObject({ came: { isUpperEnd: true } });
  });

  it('are not those of steps that were tried again or that a person helped', async () => {
    const tries = new Map<string, number>();
    await benchOf((outside) =>
      outside.step('one', {
        act: async ({ machine }) => {
          const nth = (tries.get(machine.id) ?? 0) + 1;
          tries.set(machine.id, nth);
          if (nth === 1)
            throw new HatcheryError('remote-refused', 'Unable to do it: busy', {
              retry: machine.name.endsWith('1') ? 'after-fix' : 'later',
            });
          return {};
        },
      }),
    );
    const runs = await bench.accept(2);
    await bench.until(`select count(*) = 1 as ok from steps where state = 'parked'`);
    const [parked] = await bench.database.query<{ runId: string }>(
      `select run_id as "runId" from steps where state = 'parked'`,
    );
    await changeRun(bench.parts, parked!, (model) => model.retry());
    await bench.untilAll(runs, 'done');
    await learnAll(process());
    expect(await learned()).toBeUndefined();
  });
});
