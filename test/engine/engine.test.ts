import { afterEach, describe, expect, it } from 'vitest';
import { HatcheryError } from '../../src/core/errors.js';
import { changeRun } from '../../src/engine/engine.js';
import { StepWait, type StepRun } from '../../src/plan/step.js';
import { EngineBench, Gate } from '../support/engine-bench.js';
import { Outside, use, workflow, type Input } from '../support/outside.js';

let bench: EngineBench;
afterEach(async () => bench.close());

describe('the engine on Postgres and Redis', () => {
  it('takes accepted runs through their steps to ready, each effect confirmed, the outbox empty, every slot free', async () => {
    const outside = new Outside();
    bench = await EngineBench.start({
      workflow: workflow(
        use('one') + use('two', ['one']) + use('three', ['one']) + use('four', ['two', 'three']),
      ),
      steps: [
        outside.step('one'),
        outside.step('two', { slots: () => ['clones@x'] }),
        outside.step('three'),
        outside.step('four'),
      ],
      effects: [outside.thing],
    });
    const runs = await bench.accept(12);
    await bench.worker();
    await bench.worker();
    bench.caretaker();
    await bench.untilAll(runs, 'done');
    // What was handed over goes from the outbox with the relay's next question, and two that end in one moment leave their batch to the sweeper.
    await bench.until(
      'select not exists (select from outbox) and not exists (select from batches where is_open) as ok',
    );
    expect(outside.made).toHaveLength(48);
    expect(new Set(outside.made).size).toBe(48);
    const [counts] = await bench.database.query(
      `select (select count(*) from effects where state = 'confirmed')::int as confirmed, (select count(*) from outbox)::int as outbox,
              (select count(*) from slots)::int as slots, (select count(*) from machines where state = 'ready')::int as ready,
              (select count(*) from batches where not is_open)::int as closed`,
    );
    expect(counts).toEqual({ confirmed: 48, outbox: 0, slots: 0, ready: 12, closed: 1 });
  });

  it('never has more steps in a slot than its limit', async () => {
    const outside = new Outside();
    let now = 0;
    let most = 0;
    const gated = outside.step('one', {
      slots: () => ['clones@x'],
      act: async () => {
        now += 1;
        most = Math.max(most, now);
        await new Promise((resolve) => setImmediate(resolve));
        now -= 1;
        return {};
      },
    });
    bench = await EngineBench.start({
      workflow: workflow(use('one')),
      steps: [gated],
      effects: [outside.thing],
      limitOf: () => 3,
    });
    const runs = await bench.accept(30);
    await bench.worker(30);
    bench.caretaker();
    await bench.untilAll(runs, 'done');
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThanOrEqual(3);
  });

  it('acts once when the same step is handed over many times', async () => {
    const outside = new Outside();
    bench = await EngineBench.start({
      workflow: workflow(use('one')),
      steps: [outside.step('one')],
      effects: [outside.thing],
    });
    const [run] = await bench.accept(1);
    const [step] = await bench.database.query<{ id: string }>('select id from steps');
    await bench.parts.dispatch.send(
      Array.from({ length: 20 }, (_, number) => ({ stepId: step!.id, number: 100 + number })),
    );
    await bench.worker();
    await bench.worker();
    await bench.untilAll([run!], 'done');
    expect(outside.made).toHaveLength(1);
  });

  it('gives its worker back while it waits, and goes on when it is due', async () => {
    const outside = new Outside();
    let asks = 0;
    const waiting = outside.step('one', {
      effects: () => [],
      act: async () => {
        asks += 1;
        return asks < 3 ? new StepWait(50, 'not yet') : {};
      },
    });
    bench = await EngineBench.start({ workflow: workflow(use('one')), steps: [waiting] });
    const runs = await bench.accept(1);
    await bench.worker();
    bench.caretaker();
    await bench.untilAll(runs, 'done');
    const outcomes = await bench.database.query('select outcome from attempts order by epoch');
    expect(outcomes.map((row) => row['outcome'])).toEqual(['waiting', 'waiting', 'done']);
  });

  it('parks a step that waits beyond its deadline, which begins anew when a person says again', async () => {
    const outside = new Outside();
    let isThere = false;
    const waiting = outside.step('one', {
      effects: () => [],
      act: async () => (isThere ? {} : new StepWait(20, 'nothing is there')),
    });
    bench = await EngineBench.start({
      workflow: workflow(use('one', [], ', deadline: 100ms')),
      steps: [waiting],
    });
    const [run] = await bench.accept(1);
    await bench.worker();
    bench.caretaker();
    await bench.untilAll([run!], 'parked');
    const [machine] = await bench.database.query<{ error: object }>('select error from machines');
    expect(machine!.error).toMatchObject({
      code: 'step-timeout',
      message: 'Unable to finish step one: it waited longer than 0.1 s (nothing is there)',
    });
    isThere = true;
    await changeRun(bench.parts, run!, (model) => model.retry());
    await bench.untilAll([run!], 'done');
  });

  it('parks a step that failed for good, keeps what it holds, and finishes after a retry by a person', async () => {
    const outside = new Outside();
    let isBroken = true;
    const failing = outside.step('one', {
      act: async () => {
        if (isBroken)
          throw new HatcheryError('remote-refused', 'Unable to make it: the world is broken', {
            retry: 'after-fix',
            hint: 'Mend the world.',
          });
        return {};
      },
    });
    bench = await EngineBench.start({
      workflow: workflow(use('one')),
      steps: [failing],
      effects: [outside.thing],
    });
    const [run] = await bench.accept(1);
    await bench.worker();
    bench.caretaker();
    await bench.untilAll([run!], 'parked');
    const [machine] = await bench.database.query<{ state: string; error: { hint: string } }>(
      'select state, error from machines',
    );
    expect(machine).toMatchObject({
      state: 'parked',
      error: {
        hint: expect.stringMatching(
          /^Mend the world\. Left outside: .+ When it is mended: hatchery run retry [0-9a-f-]{36}$/,
        ) as string,
      },
    });
    const [held] = await bench.database.query(
      'select count(*)::int as count from reservations where released_at is null',
    );
    expect(held).toEqual({ count: 4 });
    isBroken = false;
    await changeRun(bench.parts, { runId: run!.runId }, (model) => model.retry());
    await bench.untilAll([run!], 'done');
  });

  it('undoes everything on cancel in mid work, newest first, and frees the reservations; the VMID rests', async () => {
    const outside = new Outside();
    const gate = new Gate();
    const held = outside.step('two', {
      act: async ({ machine }: Input) => {
        outside.things.add(`two/${machine.id}`);
        await gate.pass();
        return {};
      },
    });
    bench = await EngineBench.start({
      workflow: workflow(use('one') + use('two', ['one']) + use('three', ['two'])),
      steps: [outside.step('one'), held, outside.step('three')],
      effects: [outside.thing],
    });
    const [run] = await bench.accept(1);
    await bench.worker();
    bench.caretaker();
    await gate.reached;
    const head = await bench.batches.findBatch('bench', undefined);
    await bench.batches.wantBatchGone(head!, 'test', false);
    await bench.until(`select machines.state = 'deleting' as ok from machines`);
    expect(await bench.stepStates(run!.runId)).toMatchObject({ two: 'running' });
    gate.release();
    await bench.untilAll([run!], 'cancelled');
    expect(await bench.stepStates(run!.runId)).toEqual({ one: 'undone', two: 'undone', three: 'skipped' });
    expect([...outside.things]).toEqual([]);
    const rows = await bench.database.query<{ kind: string; rests: boolean }>(
      'select kind, rest_until > now() as rests from reservations where released_at is not null order by kind',
    );
    expect(rows).toEqual([
      { kind: 'mac', rests: false },
      { kind: 'name', rests: false },
      { kind: 'person', rests: false },
      { kind: 'vmid', rests: true },
    ]);
    const [batch] = await bench.database.query('select deleted_at is not null as deleted from batches');
    expect(batch).toEqual({ deleted: true });
  });

  it('keeps a shared effect until its last holder lets go', async () => {
    const outside = new Outside();
    const undone: string[] = [];
    const sharing = outside.step('one', {
      effects: ({ machine }: Input) => [
        {
          kind: 'thing',
          version: 1,
          system: 'outside',
          key: 'group',
          payload: { name: 'group' },
          shared: true,
        },
        { kind: 'thing', version: 1, system: 'outside', key: machine.id, payload: { name: machine.id } },
      ],
      act: async ({ machine }: Input) => {
        outside.things.add('group').add(machine.id);
        return {};
      },
    });
    const thing = {
      ...outside.thing,
      undo: async ({ name }: { name: string }) => void (undone.push(name), outside.things.delete(name)),
    };
    bench = await EngineBench.start({ workflow: workflow(use('one')), steps: [sharing], effects: [thing] });
    const runs = await bench.accept(3);
    await bench.worker();
    bench.caretaker();
    await bench.untilAll(runs, 'done');
    for (const [index, run] of runs.entries()) {
      await changeRun(bench.parts, { runId: run.runId }, (model) => model.wantGone());
      await bench.untilAll([run], 'cancelled');
      expect(outside.things.has('group'), `after ${index + 1} of 3`).toBe(index < 2);
    }
    expect(undone.filter((name) => name === 'group')).toHaveLength(1);
  });

  it('goes on with the steps of a worker that died, under a new epoch, and refuses the dead one’s result', async () => {
    const outside = new Outside();
    bench = await EngineBench.start({
      workflow: workflow(use('one')),
      steps: [outside.step('one')],
      effects: [outside.thing],
    });
    const [run] = await bench.accept(1);
    const [step] = await bench.database.query<{ id: string }>('select id from steps');
    const dead = crypto.randomUUID();
    await bench.parts.store.registerWorker({ id: dead, host: 'h', pid: 1, versions: [], leaseMs: 100 });
    const held = await changeRun(bench.parts, { stepId: step!.id }, (model) =>
      model.claim(step!.id, { id: dead, isAlone: false }),
    );
    expect(held).toMatchObject({ epoch: 1 });
    await bench.worker();
    bench.caretaker();
    await bench.untilAll([run!], 'done');
    expect(
      await changeRun(bench.parts, { stepId: step!.id }, (model) =>
        model.isHeld({ stepId: step!.id, epoch: 1, workerId: dead }),
      ),
    ).toBe(false);
    expect(
      await bench.parts.store.note({ stepId: step!.id, epoch: 1, workerId: dead }, 'late', { sinceMs: 1 }),
    ).toBe(false);
    const attempts = await bench.database.query('select epoch, outcome from attempts order by epoch');
    expect(attempts).toEqual([
      { epoch: 1, outcome: 'lost' },
      { epoch: 2, outcome: 'done' },
    ]);
  });

  it('hands all its steps to another worker when it stops in good order', async () => {
    const outside = new Outside();
    const held = new Set<string>();
    const slow = outside.step('one', {
      act: async (_input: Input, _ports: unknown, run: StepRun) => {
        const { signal } = run.call;
        if (run.attempt > 1) return {};
        held.add(run.runId);
        return new Promise<object>((_resolve, reject) =>
          signal.addEventListener('abort', () => reject(signal.reason as Error)),
        );
      },
    });
    bench = await EngineBench.start({
      workflow: workflow(use('one')),
      steps: [slow],
      effects: [outside.thing],
      times: { leaseMs: 60_000 },
    });
    const runs = await bench.accept(32);
    const first = await bench.worker(32);
    bench.caretaker();
    while (held.size < 32) await new Promise((resolve) => setImmediate(resolve));
    await bench.worker();
    await first.stop();
    await bench.untilAll(runs, 'done');
    const outcomes = await bench.database.query(
      'select epoch, outcome, count(*) as count from attempts group by 1, 2 order by 1',
    );
    expect(outcomes).toEqual([
      { epoch: 1, outcome: 'handed-over', count: 32 },
      { epoch: 2, outcome: 'done', count: 32 },
    ]);
  });
});
