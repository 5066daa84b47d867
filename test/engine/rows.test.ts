import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { settlesOf } from '../../src/drivers/postgres/run-changes.js';
import { changeRun } from '../../src/engine/engine.js';
import type { HeldStep } from '../../src/ports/run-store.js';
import { EngineBench, Gate } from '../support/engine-bench.js';
import { Outside, use, workflow } from '../support/outside.js';

let bench: EngineBench;
beforeEach(async () => {
  const outside = new Outside();
  bench = await EngineBench.start({
    workflow: workflow(use('one')),
    steps: [outside.step('one')],
    effects: [outside.thing],
  });
});
afterEach(async () => bench.close());

/** Resolves when a statement of this database waits for a row that another transaction has. */
const somebodyWaits = (): Promise<void> =>
  bench.until(
    `select count(*) > 0 as ok from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
  );

it('sees what the transaction before it wrote, in every table, when it had to wait for the run', async () => {
  const [run] = await bench.accept(1);
  const gate = new Gate();
  const before = bench.database.transaction(async (queries) => {
    await queries.query('select 1 from runs where id = $1 for update', [run!.runId]);
    await queries.query(`update machines set node = 'moved', smbios_uuid = gen_random_uuid()`);
    await queries.query(`update steps set error = '{}'`);
    await gate.pass();
  });
  await gate.reached;
  const after = changeRun(bench.parts, { runId: run!.runId }, (_model, loaded) => loaded);
  await somebodyWaits();
  gate.release();
  await before;
  expect(await after).toMatchObject({
    machine: { node: 'moved', incarnation: expect.any(String) as string },
    steps: [{ error: {} }],
  });
});

it('cancels a batch beside a step that settles one of its machines, and neither has to begin again', async () => {
  const [run] = await bench.accept(1);
  const batch = (await bench.batches.findBatch('bench', undefined))!;
  const gate = new Gate();
  let tries = 0;
  const settling = bench.database.transaction(async (queries) => {
    tries += 1;
    await queries.query('select 1 from runs where id = $1 for update', [run!.runId]);
    await gate.pass();
    for (const { text, values } of settlesOf(batch.id)) await queries.query(text, values);
  });
  await gate.reached;
  const cancelling = bench.batches.wantBatchGone(batch, 'test', false);
  await somebodyWaits();
  gate.release();
  await Promise.all([settling, cancelling]);
  expect(tries).toBe(1);
  expect(await bench.database.query('select wanted from runs')).toEqual([{ wanted: 'gone' }]);
});

it('a machine that comes back to a deleted batch shows the batch again, or settles without its name', async () => {
  await bench.accept(1);
  const { id } = (await bench.batches.findBatch('bench', undefined))!;
  const settle = async (): Promise<unknown> => {
    await bench.database.write(settlesOf(id));
    const [row] = await bench.database.query(
      'select deleted_at is not null as deleted from batches where id = $1',
      [id],
    );
    return row;
  };
  await bench.database.query(`update machines set state = 'deleted'`);
  expect(await settle()).toEqual({ deleted: true });
  await bench.database.query(`update machines set state = 'parked'`);
  expect(await settle()).toEqual({ deleted: false });
  await bench.database.query(`update machines set state = 'deleted'`);
  expect(await settle()).toEqual({ deleted: true });
  await bench.database.query(
    `insert into batches (id, name, owner_id, blueprint_version_id, workflow_version_id, cluster)
     select gen_random_uuid(), name, owner_id, blueprint_version_id, workflow_version_id, cluster from batches`,
  );
  await bench.database.query(`update machines set state = 'parked'`);
  expect(await settle()).toEqual({ deleted: true });
});

it('a batch that nobody closed when its last machines came to rest is closed by the sweeper, once', async () => {
  await bench.accept(2);
  await bench.database.query(`update batches set notify_url = 'https://example.org/'`);
  const settled = async (): Promise<unknown> => {
    await bench.parts.store.settleLeft();
    const [row] = await bench.database.query(
      `select is_open as open, (select count(*)::int from outbox where kind = 'notify') as notices from batches`,
    );
    return row;
  };
  expect(await settled()).toEqual({ open: true, notices: 0 });
  await bench.database.query(`update machines set state = 'ready'`);
  expect(await settled()).toEqual({ open: false, notices: 1 });
  expect(await settled()).toEqual({ open: false, notices: 1 });
});

it('keeps a step that was handed over in the outbox until the next one is, and hands it over once', async () => {
  await bench.accept(1);
  const sent: string[] = [];
  const relay = (): Promise<number> =>
    bench.parts.store.relay(async (items) => void sent.push(...items.map(({ stepId }) => stepId)), 10);
  const left = async (): Promise<unknown> =>
    (await bench.database.query(`select count(*)::int as rows from outbox where kind = 'dispatch'`))[0];
  expect(await relay()).toBe(1);
  expect(await left()).toEqual({ rows: 1 });
  expect(await relay()).toBe(0);
  expect(await left()).toEqual({ rows: 0 });
  expect(sent).toHaveLength(1);
});

it('adds no machine to a batch that was deleted since it was looked up', async () => {
  await bench.accept(1);
  await bench.database.query('update batches set deleted_at = now()');
  await expect(bench.accept(1)).rejects.toMatchObject({ code: 'not-applicable' });
  expect(await bench.database.query('select count(*)::int as machines from machines')).toEqual([
    { machines: 1 },
  ]);
});

it('accepts with other names when another cluster’s batch took the first ones in the same moment', async () => {
  await bench.accept(1);
  const gate = new Gate();
  const other = bench.database.transaction(async (queries) => {
    await queries.query(
      `insert into reservations (kind, scope, value, machine_id) select 'name', '', 'vm-2', machine_id from reservations limit 1`,
    );
    await gate.pass();
  });
  await gate.reached;
  const accepting = bench.accept(1);
  await somebodyWaits();
  gate.release();
  await other;
  await accepting;
  expect(await bench.database.query('select name from machines order by name')).toEqual([
    { name: 'vm-1' },
    { name: 'vm-3' },
  ]);
});

it('records a guest found after the end of its run again until its undo is open, and never one that was undone', async () => {
  const [run] = await bench.accept(1);
  await bench.database.query(`update runs set state = 'cancelled', finished_at = now()`);
  await bench.database.query(
    `insert into effects (id, kind, version, system, key, step_id, payload, state)
     select gen_random_uuid(), 'guest', 1, 'main', '101', id, '{}', 'undone' from steps`,
  );
  const found = (): Promise<string | undefined> =>
    bench.parts.store.recordStray(run!.machineId, {
      kind: 'guest',
      version: 1,
      system: 'main',
      key: '101',
      payload: {},
    });
  expect(await found()).toBe(run!.runId);
  // As by a process that ended before it opened the undo.
  expect(await found()).toBe(run!.runId);
  await bench.database.query(`update effects set state = 'undone'`);
  expect(await found()).toBeUndefined();
});

it('confirms what the ended step made, and nothing that others only mean to make', async () => {
  const runs = await bench.accept(2);
  const workerId = randomUUID();
  const held: HeldStep[] = [];
  for (const { runId } of runs) {
    const [step] = await bench.database.query<{ id: string }>('select id from steps where run_id = $1', [
      runId,
    ]);
    const claim = await changeRun(bench.parts, { runId }, (model) =>
      model.claim(step!.id, { id: workerId, isAlone: false }),
    );
    if (claim === undefined || 'refused' in claim) throw new Error('not claimed');
    held.push(claim);
    const thing = { kind: 'thing', version: 1, system: 'outside', key: runId, payload: {} };
    await bench.parts.store.intend(claim, [thing]);
  }
  await changeRun(bench.parts, { runId: runs[0]!.runId }, (model) => model.done(held[0]!, {}, {}));
  const effects = await bench.database.query<{ key: string; state: string }>(
    'select key, state from effects',
  );
  expect(new Map(effects.map(({ key, state }) => [key, state]))).toEqual(
    new Map([
      [runs[0]!.runId, 'confirmed'],
      [runs[1]!.runId, 'intended'],
    ]),
  );
});
