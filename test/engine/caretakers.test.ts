import { afterEach, describe, expect, it } from 'vitest';
import { changeRun } from '../../src/engine/engine.js';
import type { EngineWorker } from '../../src/engine/worker.js';
import { EngineBench, Gate } from '../support/engine-bench.js';
import { Outside, use, workflow } from '../support/outside.js';

/** What was just handed over is in the queue by then. */
const SLOW_MACHINE = { overdueMs: 1_500 };

let bench: EngineBench;
afterEach(async () => bench.close());

describe('ten caretakers at once', () => {
  it('hand over again what the queue lost once, and the work is done once', async () => {
    const outside = new Outside();
    bench = await EngineBench.start({
      workflow: workflow(use('one') + use('two', ['one'])),
      steps: [outside.step('one'), outside.step('two', { slots: () => ['clones@x'] })],
      effects: [outside.thing],
      limitOf: () => 2,
      times: SLOW_MACHINE,
    });
    const runs = await bench.accept(8);
    for (let count = 0; count < 10; count += 1) bench.caretaker();
    await bench.until('select count(*) = 0 as ok from outbox');
    await bench.loseQueue();
    await bench.until(`select bool_and(dispatch > 1) as ok from steps where key = 'one'`);
    await bench.until('select count(*) = 0 as ok from outbox');
    expect(await bench.database.query(`select distinct dispatch from steps where key = 'one'`)).toEqual([
      { dispatch: 2 },
    ]);
    await bench.worker();
    await bench.worker();
    await bench.untilAll(runs, 'done');
    expect(outside.made).toHaveLength(16);
  });

  it('find what the queue lost behind any number of steps that wait in it', async () => {
    const outside = new Outside();
    bench = await EngineBench.start({
      workflow: workflow(use('one')),
      steps: [outside.step('one')],
      effects: [outside.thing],
      times: SLOW_MACHINE,
    });
    await bench.accept(130);
    bench.caretaker();
    await bench.until(`select count(*) = 0 as ok from outbox`);
    const [last] = await bench.database.query<{ id: string }>(
      'select id from steps order by id desc limit 1',
    );
    await bench.loseJob(last!.id, 1);
    await bench.until(`select dispatch = 2 as ok from steps where id = $1`, [last!.id]);
    expect(await bench.database.query('select 1 from steps where dispatch > 1')).toHaveLength(1);
  });

  it('bury a dead worker once and count one death', async () => {
    const outside = new Outside();
    bench = await EngineBench.start({
      workflow: workflow(use('one') + use('two')),
      steps: [outside.step('one'), outside.step('two')],
      effects: [outside.thing],
    });
    const [run] = await bench.accept(1);
    const dead = crypto.randomUUID();
    await bench.parts.store.registerWorker({ id: dead, host: 'h', pid: 1, versions: [], leaseMs: 1 });
    for (const { id } of await bench.database.query<{ id: string }>('select id from steps'))
      await changeRun(bench.parts, { stepId: id }, (model) => model.claim(id, { id: dead, isAlone: false }));
    for (let count = 0; count < 10; count += 1) bench.caretaker();
    const held = 'select 1 from steps where worker_id is not null';
    await expect.poll(() => bench.database.query(held)).toEqual([]);
    expect(await bench.database.query('select deaths from runs')).toEqual([{ deaths: 1 }]);
    await bench.worker();
    await bench.untilAll([run!], 'done');
  });
});

describe('a run that killed workers', () => {
  it('is not blamed for a death among those of others, unless they went in good order', async () => {
    const outside = new Outside();
    bench = await EngineBench.start({
      workflow: workflow(use('one')),
      steps: [outside.step('one')],
      effects: [outside.thing],
    });
    await bench.accept(1);
    await bench.database.query('update runs set deaths = 3');
    const [{ id: stepId }] = (await bench.database.query('select id from steps')) as [{ id: string }];
    const { store } = bench.parts;
    const register = async (leaseMs: number): Promise<string> => {
      const id = crypto.randomUUID();
      await store.registerWorker({ id, host: 'h', pid: 1, versions: [], leaseMs });
      return id;
    };
    const claimAlone = async (): Promise<string> => {
      const id = await register(60_000);
      await changeRun(bench.parts, { stepId }, (model) => model.claim(stepId, { id, isAlone: true }));
      return id;
    };
    const die = async (...ids: string[]): Promise<boolean[]> => {
      for (const id of ids) await store.heartbeat(id, 0);
      return (await store.buryDead(10)).map((row) => row.isOneOfMany);
    };
    const first = await claimAlone();
    await store.stopWorker(await register(60_000));
    expect(await die(first)).toEqual([false]);
    await changeRun(bench.parts, { stepId }, (model) => model.lost(first));
    expect(await die(await register(60_000), await claimAlone())).toEqual([true]);
  });

  it('works with nothing beside it, and only one worker empties its hands for it', async () => {
    const outside = new Outside();
    const gates = new Map<string, Gate>();
    const working = new Set<string>();
    let beside: string[] | undefined;
    const step = outside.step('one', {
      act: async ({ machine }) => {
        working.add(machine.id);
        if (machine.id === poison) beside = [...working];
        await gates.get(machine.id)?.pass();
        working.delete(machine.id);
        return {};
      },
    });
    bench = await EngineBench.start({
      workflow: workflow(use('one')),
      steps: [step],
      effects: [outside.thing],
    });
    const runs = await bench.accept(4);
    const [poison, first, second] = runs.map((run) => run.machineId);
    await bench.database.query('update runs set deaths = 3 where machine_id = $1', [poison]);
    const rows = await bench.database.query<{ id: string; machine: string }>(
      'select s.id, r.machine_id as machine from steps s join runs r on r.id = s.run_id',
    );
    const stepOf = new Map(rows.map((row) => [row.machine, row.id]));
    const work = (by: { engine: EngineWorker }, run: number): Promise<void> =>
      by.engine.handle(stepOf.get(runs[run]!.machineId)!);
    const [one, two] = [await bench.worker(), await bench.worker()];
    for (const machine of [first!, second!]) gates.set(machine, new Gate());
    const held = [work(one, 1), work(two, 2)];
    await Promise.all([...gates.values()].map((gate) => gate.reached));
    const alone = work(one, 0);
    while (!(await bench.parts.locks.held()).some((lock) => lock.name === 'alone'));
    // The other worker leaves the run to the first, and goes on.
    await work(two, 0);
    await work(two, 3);
    expect(beside).toBeUndefined();
    for (const gate of gates.values()) gate.release();
    await Promise.all([...held, alone]);
    expect(beside).toEqual([poison]);
    await bench.untilAll(runs, 'done');
  });
});

describe('what no live worker knows', () => {
  const due = `due_at = now() - interval '1 minute'`;

  it('parks, and goes on when a build that knows it is there and a person says again', async () => {
    const outside = new Outside();
    bench = await EngineBench.start({
      workflow: workflow(use('one')),
      steps: [outside.step('one')],
      effects: [outside.thing],
    });
    const [run] = await bench.accept(1);
    await bench.database.query(`update steps set version = 2, ${due}`);
    await bench.worker();
    bench.caretaker();
    await bench.untilAll([run!], 'parked');
    const [machine] = await bench.database.query('select state, error from machines');
    expect(machine).toMatchObject({ state: 'parked', error: { code: 'unknown-step' } });
    await bench.database.query('update steps set version = 1');
    await changeRun(bench.parts, { runId: run!.runId }, (model) => model.retry());
    await bench.untilAll([run!], 'done');
  });

  it('is left for a worker that can undo it, and parks when there is none', async () => {
    const outside = new Outside();
    bench = await EngineBench.start({
      workflow: workflow(use('one')),
      steps: [outside.step('one')],
      effects: [outside.thing],
    });
    const [run] = await bench.accept(1);
    await bench.worker();
    bench.caretaker();
    await bench.untilAll([run!], 'done');
    await bench.database.query('update effects set version = 2');
    const newer = crypto.randomUUID();
    await bench.parts.store.registerWorker({
      id: newer,
      host: 'h',
      pid: 1,
      versions: ['undo:thing@2'],
      leaseMs: 60_000,
    });
    await changeRun(bench.parts, { runId: run!.runId }, (model) => model.wantGone());
    await bench.database.query(`update steps set ${due}`);
    expect(await bench.parts.store.unknownSteps(10)).toEqual([]);
    expect(await bench.database.query(`select 1 from attempts where kind = 'undo'`)).toEqual([]);
    await bench.parts.store.stopWorker(newer);
    await bench.untilAll([run!], 'parked');
    expect(outside.things.size).toBe(1);
  });
});
