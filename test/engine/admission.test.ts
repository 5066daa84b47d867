import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SlotDispatcher } from '../../src/engine/slot-dispatcher.js';
import { changeRun } from '../../src/engine/engine.js';
import type { HeldStep } from '../../src/ports/run-store.js';
import { EngineBench } from '../support/engine-bench.js';
import { Outside, use, workflow } from '../support/outside.js';

const STORAGE = 'clones@storage:main/ceph';
const NODE = 'starts@node:main/pve1';
const CLASS = '00000000-0000-4000-8000-00000000000a';
const MEMBER = '00000000-0000-4000-8000-00000000000b';

let bench: EngineBench;
beforeEach(async () => {
  const outside = new Outside();
  bench = await EngineBench.start({
    workflow: workflow(use('one')),
    steps: [outside.step('one', { slots: () => [STORAGE] })],
    effects: [outside.thing],
    times: { sweepMs: 0 },
    // No clone goes alone: for how long is simulated time.
    ports: { remoteTimeScale: 0 },
  });
});
afterEach(async () => bench.close());

/** Accepts machines, all of one owner. */
async function accept(owner: string, count: number): Promise<{ runId: string }[]> {
  const runs = await bench.accept(count);
  await bench.database.query(
    `update steps set owner_id = $1, due_at = now() - interval '1 second' where run_id = any ($2::uuid[])`,
    [owner, runs.map(({ runId }) => runId)],
  );
  return runs;
}

const dispatcher = (limit = 2): SlotDispatcher => new SlotDispatcher('main', bench.parts, () => limit);
const admittedOf = async (owner: string): Promise<number> => {
  const [row] = await bench.database.query<{ count: number }>(
    'select count(*)::int as count from slots h join steps s on s.id = h.step_id where s.owner_id = $1',
    [owner],
  );
  return row!.count;
};

describe('admission', () => {
  it('looks at every line, however many wait in front for something else', async () => {
    await accept(CLASS, 40);
    await accept(CLASS, 1);
    await bench.database.query(
      `update steps set slots = array[$1], rank = 9 where id = (select max(id::text)::uuid from steps)`,
      [NODE],
    );
    const { waiting } = await bench.parts.slots.view('main', 3);
    expect(waiting.map(({ slots }) => slots[0])).toEqual([STORAGE, STORAGE, STORAGE, NODE]);
    expect(await dispatcher(1).admitAll()).toBe(2);
  });

  it('gives the next slot to one machine of a member, in front of a class', async () => {
    await accept(CLASS, 20);
    const slots = dispatcher();
    expect(await slots.admitAll()).toBe(2);
    await accept(MEMBER, 1);
    expect(await slots.admitAll()).toBe(0);
    await bench.database.query('delete from slots where number = 1');
    expect(await slots.admitAll()).toBe(1);
    expect(await admittedOf(MEMBER)).toBe(1);
  });

  it('gives each slot once and hands each step over once when two dispatch at the same time', async () => {
    await accept(CLASS, 30);
    const many = Array.from({ length: 6 }, () => dispatcher(4));
    await Promise.all(many.map((one) => one.admitAll()));
    const rows = await bench.database.query<{ number: number }>('select number from slots order by number');
    expect(rows.map(({ number }) => number)).toEqual([1, 2, 3, 4]);
    const handed = await bench.database.query(`select 1 from outbox where kind = 'dispatch'`);
    expect(handed).toHaveLength(4);
    expect(await bench.database.query('select 1 from steps where slots is null')).toHaveLength(4);
  });

  it('lets the first clone of an idle storage go alone, and the others when it is over or takes long', async () => {
    await accept(CLASS, 20);
    let nowMs = 0;
    const slots = new SlotDispatcher(
      'main',
      {
        ...bench.parts,
        clock: { ...bench.parts.clock, monotonicMs: () => nowMs },
        ports: { ...bench.parts.ports, remoteTimeScale: 1 },
      },
      () => 3,
    );
    expect([await slots.admitAll(), await slots.admitAll()]).toEqual([1, 0]);
    await bench.database.query('delete from slots');
    expect(await slots.admitAll()).toBe(3);
    await bench.database.query('delete from slots');
    nowMs = 60_000;
    expect([await slots.admitAll(), await slots.admitAll()]).toEqual([1, 0]);
    nowMs += 5_000;
    expect(await slots.admitAll()).toBe(2);
  });

  it('leaves out what was cancelled since it was looked at', async () => {
    const [run] = await accept(CLASS, 1);
    const { waiting } = await bench.parts.slots.view('main', 3);
    await changeRun(bench.parts, run!, (model) => model.wantGone());
    const admitted = waiting.map(({ id }) => ({ stepId: id, slots: [{ resource: STORAGE, number: 1 }] }));
    expect(await bench.parts.slots.take(admitted)).toBe(0);
    expect(await bench.database.query('select 1 from slots')).toEqual([]);
  });

  it('asks once when nothing is free, whatever the number of those that wait', async () => {
    await accept(CLASS, 300);
    const slots = new SlotDispatcher(
      'main',
      { ...bench.parts, times: { ...bench.parts.times, sweepMs: 60_000 } },
      () => 2,
    );
    await slots.admitAll();
    const before = bench.database.statements;
    await slots.admitAll();
    expect(bench.database.statements - before).toBe(1);
  });
});

describe('limits', () => {
  const limitNow = async () =>
    (await bench.parts.slotLimits.list('main')).find(({ resource }) => resource === STORAGE);

  /** A clone that holds its slots and tells how long it waited. */
  async function clone(waitMs: number, timedOut = false): Promise<void> {
    const [step] = await bench.database.query<{ id: string }>(
      'select id from steps where slots is null limit 1',
    );
    const worker = crypto.randomUUID();
    await bench.parts.store.registerWorker({ id: worker, host: 'h', pid: 1, versions: [], leaseMs: 60_000 });
    await bench.database.query(
      'update steps set worker_id = $1, epoch = 1, dispatched_at = clock_timestamp() where id = $2',
      [worker, step!.id],
    );
    const held: HeldStep = { stepId: step!.id, epoch: 1, workerId: worker };
    await bench.parts.slotLimits.noteWait({ ...held, epoch: 7 }, STORAGE, { waitMs: 9_000, timedOut: true });
    await bench.parts.slotLimits.noteWait(held, STORAGE, { waitMs, timedOut });
  }

  it('follow what clones measured, and a stale worker’s word counts for nothing', async () => {
    await accept(CLASS, 20);
    const slots = dispatcher();
    await slots.admitAll();
    for (let count = 0; count < 4; count += 1) await clone(100);
    await slots.admitAll();
    expect(await limitNow()).toMatchObject({ measured: { limit: 3 }, inUse: 3, waiting: 17 });
  });

  it('fall once for clones that give up together', async () => {
    await accept(CLASS, 20);
    const slots = dispatcher(4);
    await slots.admitAll();
    for (let count = 0; count < 3; count += 1) await clone(10_000, true);
    await slots.admitAll();
    expect(await limitNow()).toMatchObject({ measured: { limit: 3 } });
  });

  it('are kept when another process dispatches', async () => {
    await accept(CLASS, 20);
    const first = dispatcher();
    await first.admitAll();
    for (let count = 0; count < 4; count += 1) await clone(100);
    await first.admitAll();
    await bench.database.query('delete from slots');
    await dispatcher().admitAll();
    expect(await bench.database.query('select 1 from slots')).toHaveLength(3);
  });

  it('are what a person fixed, until the person lets go', async () => {
    await accept(CLASS, 20);
    const slots = dispatcher();
    await slots.admitAll();
    const fix = (limit: number | undefined) =>
      bench.parts.slotLimits.fix('main', new Map([[STORAGE, limit]]), 'boss');
    expect(await fix(5)).toBe(true);
    await slots.admitAll();
    expect(await limitNow()).toMatchObject({ fixed: 5, inUse: 5 });
    expect(await fix(undefined)).toBe(true);
    expect(await limitNow()).toMatchObject({ fixed: undefined, measured: { limit: 2 } });
    expect(
      await bench.database.query(
        `select actor, subject, detail from audit where action = 'slot-limit.fix' order by id`,
      ),
    ).toEqual([
      { actor: 'boss', subject: STORAGE, detail: { from: 'auto', to: '5' } },
      { actor: 'boss', subject: STORAGE, detail: { from: '5', to: 'auto' } },
    ]);
    expect(
      await bench.parts.slotLimits.fix('main', new Map([['clones@storage:main/nowhere', 3]]), 'boss'),
    ).toBe(false);
  });
});
