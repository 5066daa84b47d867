import { afterAll, beforeAll, expect, it } from 'vitest';
import { inTime } from '../support/lose-worker.js';
import { SteeredWorker } from '../support/steered-worker.js';
import { StepWorld } from '../support/step-world.js';
import { Matrix, VM } from './kill-points/cells.js';

/** Three beside others, three that had nothing else in hand. */
const WORKERS = 6;

let world: StepWorld;
beforeAll(async () => {
  world = await StepWorld.start();
});
afterAll(async () => world?.close());

it('a step that ends the process of every worker that takes it is parked after six of them, and the machine beside it gets ready', async () => {
  const [poison, healthy] = await world.createBatch(VM.blueprint, ['poison', 'healthy']);
  const at = ['K2', poison!.runId, 'configure'] as const;
  await world.open(poison!, new Matrix(VM).needsOf('configure'));
  let worker = await SteeredWorker.start(world);
  for (let dead = 0; dead < WORKERS; dead += 1) {
    if (dead > 0) worker = await SteeredWorker.start(world);
    const stands = worker.stands(...at);
    if (dead === 0) await world.give(poison!, 'configure', (id) => worker.take(id));
    await inTime(`the step in the hands of worker ${dead + 1}`, stands);
    await worker.kill();
  }
  await world.stepIs('parked', poison!, 'configure');
  await world.open(healthy!);
  await world.runsAre('done', [healthy!]);

  const { error } = await world.one<{ error: { code: string; message: string; hint: string } }>(
    `select error from steps where run_id = $1 and key = 'configure'`,
    [poison!.runId],
  );
  expect(error.message).toMatch(/^Unable to .* workers/);
  expect(error.hint).toContain(`hatchery run retry ${poison!.runId}`);
  const attempts = await world.query(
    `select distinct outcome, count(*)::int as times from attempts a join steps s on s.id = a.step_id
      where s.run_id = $1 and s.key = 'configure' group by outcome`,
    [poison!.runId],
  );
  expect(attempts).toEqual([{ outcome: 'lost', times: WORKERS }]);
});
