import { afterEach, beforeEach, expect, it } from 'vitest';
import { changeRun } from '../../src/engine/engine.js';
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
    machine: { node: 'moved', smbiosUuid: expect.any(String) as string },
    steps: [{ error: {} }],
  });
});
