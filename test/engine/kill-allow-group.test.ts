import { fork, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { assembled, people, type Assembled } from '../support/assembled.js';
import { simulatedSite, type SimulatedSite } from '../support/simulated-site.js';

const TIMES = { leaseMs: 2_000, heartbeatMs: 250, sweepMs: 100, overdueMs: 1_000, longestRequestMs: 500 };
const STEP = 'allow-mac';

let site: SimulatedSite;
let bench: Assembled;
const workers = new Set<ChildProcess>();

beforeAll(async () => {
  site = await simulatedSite();
  bench = await assembled(site, { times: TIMES });
});
afterEach(() => {
  for (const worker of workers) worker.kill('SIGKILL');
  workers.clear();
});
afterAll(async () => {
  await bench?.close();
  await site?.stop();
});

async function worker(kill?: { point: string; step: string }): Promise<ChildProcess> {
  const child = fork(join(import.meta.dirname, '..', 'support', 'engine-worker.mjs'), {
    stdio: ['ignore', 2, 2, 'ipc'],
  });
  workers.add(child);
  const { databaseUrl, redisUrl, redisPrefix, deployment, remoteTimeScale, times, secretKey } = bench.options;
  const options = { databaseUrl, redisUrl, redisPrefix, deployment, remoteTimeScale, times };
  child.send({
    options: { ...options, configDir: site.configDir, secretKey: secretKey.toString('base64') },
    kill,
  });
  // One that is to die may do so before it has said that it works.
  await Promise.race([once(child, 'message'), once(child, 'exit')]);
  return child;
}

const died = async (child: ChildProcess): Promise<void> => {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  expect(child.signalCode).toBe('SIGKILL');
};

interface Cell {
  readonly runId: string;
  readonly mac: string;
}

async function createMany(count: number): Promise<Cell[]> {
  const name = `b-${randomBytes(4).toString('hex')}`;
  const rows = people(count, `s${randomBytes(4).toString('hex')}`);
  await bench.assembly.intake.create(
    { name, blueprint: 'student-desktop', rows, skipExisting: false },
    bench.admin,
    undefined,
  );
  return bench.assembly.database.query<Cell>(
    'select r.id as "runId", m.mac from machines m join runs r on r.machine_id = m.id join batches b on b.id = m.batch_id where b.name = $1',
    [name],
  );
}

/** Every attempt to add the machine's MAC, also one that was refused because it is there. */
const adds = ({ mac }: Cell): number =>
  site.simulators.context.journal.read().filter(({ op, resource }) => op === 'dhcp.allow' && resource === mac)
    .length;

/** Single steps are in the matrix, kill-points.test.ts. */
describe(`a worker killed with a group of ${STEP} in hand`, () => {
  it.each([
    ['K2', 'their intents saved'],
    ['K6', 'all of it done and nothing of it written down'],
    ['K7', 'the first outcome written down'],
  ])('at %s, %s, leaves each thing made once, and each run loses one attempt at most', async (point) => {
    const cells = await createMany(6);
    await died(await worker({ point, step: STEP }));
    await worker();
    const runs = cells.map(({ runId }) => runId);
    await bench.until(
      `select bool_and(state = 'done') as ok from steps where key = $2 and run_id = any ($1::uuid[])`,
      [runs, STEP],
    );
    for (const cell of cells) expect(adds(cell)).toBe(1);
    const [deaths] = await bench.assembly.database.query<{ most: number }>(
      `select coalesce(max(count), 0)::int as most from (
         select count(*) from attempts a join steps s on s.id = a.step_id
          where a.outcome = 'lost' and s.run_id = any ($1::uuid[]) group by s.run_id, s.key) as lost`,
      [runs],
    );
    // At K7 the others may be written down too by the time that the worker is dead: then nobody held anything any more.
    expect(deaths!.most).toBeLessThanOrEqual(1);
    if (point !== 'K7') expect(deaths!.most).toBe(1);
  });
});
