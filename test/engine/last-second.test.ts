import { afterAll, beforeAll, expect, it } from 'vitest';
import type { KillPoint } from '../../src/ports/checkpoints.js';
import { checkJournal } from '../../src/simulators/journal/check.js';
import { assembled, people, type Assembled } from '../support/assembled.js';
import { simulatedSite, type SimulatedSite } from '../support/simulated-site.js';
import { thingsOutside } from '../support/things-outside.js';

/** From the claim of a machine's last step to the commit that makes it ready, and behind that. */
const MOMENTS: readonly KillPoint[] = ['K1', 'K2', 'K3', 'K6', 'K9', 'K7'];

let site: SimulatedSite;
let bench: Assembled;
let worker: { stop(): Promise<void> };
/** What happens when the last step of a run reaches its moment. */
const atMoment = new Map<string, () => Promise<void>>();

beforeAll(async () => {
  site = await simulatedSite({
    cluster: { limits: { clonesPerStorage: 8, clonesPerNode: 8, startsPerNode: 8 } },
  });
  bench = await assembled(site, {
    checkpoints: {
      async reach(point, { runId = '', step }) {
        if (step !== 'desktop') return;
        const key = `${point} ${runId}`;
        const act = atMoment.get(key);
        atMoment.delete(key);
        await act?.();
      },
    },
  });
});
afterAll(async () => {
  await worker?.stop();
  await bench?.assembly.caretaker.stop();
  await bench?.close();
  await site?.stop();
});

it('a machine that is cancelled around its last commit is never cancelled with something of it alive', async () => {
  const { intake, database, caretaker } = bench.assembly;
  const { context } = site.simulators;
  const before = thingsOutside(site);
  const runs: string[] = [];
  for (const moment of MOMENTS) {
    const name = `at-${moment.toLowerCase()}`;
    await intake.create(
      { name, blueprint: 'student-desktop', rows: people(1, name), skipExisting: false },
      bench.admin,
      undefined,
    );
    const [run] = await database.query<{ id: string }>(
      'select r.id from runs r join batches b on b.id = r.batch_id where b.name = $1',
      [name],
    );
    atMoment.set(`${moment} ${run!.id}`, () => intake.cancelBatch(name, bench.admin));
    runs.push(run!.id);
  }
  caretaker.start();
  worker = await bench.assembly.startWorker(16);
  // Whoever reads "cancelled" at any time finds nothing of it outside: it is written with the end of the last undo.
  await bench.until(
    `select bool_and(r.state = 'cancelled' and m.state = 'deleted') and not exists (select from effects where state <> 'undone') as ok
       from runs r join machines m on m.id = r.machine_id where r.id = any ($1::uuid[])`,
    [runs],
  );
  expect(atMoment.size).toBe(0);
  const lines = context.journal.read();
  const done = (op: string): number =>
    lines.filter((line) => line.event === 'task-end' && line.op === op && line.effect).length;
  expect([done('qemu.clone'), done('qemu.destroy')]).toEqual([MOMENTS.length, MOMENTS.length]);
  expect(thingsOutside(site)).toEqual(before);
  expect(await database.query('select 1 from slots')).toEqual([]);
  expect(await checkJournal(context.journal.file)).toMatchObject({ foreignWrites: 0, collisions: 0 });
});
