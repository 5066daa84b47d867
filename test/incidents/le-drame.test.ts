import { afterEach, expect, it } from 'vitest';
import { startSimulators, type Simulators } from '../../src/simulators/simulators.js';
import { assembled, people } from '../support/assembled.js';
import { writeSite } from '../support/simulated-site.js';
import { SuspendedWorker } from '../support/suspended-worker.js';
import { NaiveDeployment } from './naive-deployment.js';

/*
 * "Le drame": a class of 60 created at once from one template on one shared storage. Its lock timed out under the load, VMIDs collided,
 * everything started at the same time, and what was left had to be mended by hand.
 */

const SCALE = 0.01;
const CLASS = 60;
const POOL = 'hatchery-demo';

let simulators: Required<Simulators>;
const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** Storage locks are polled once a second as on the clusters of that time: under many clones some never get it. */
async function theCluster(): Promise<void> {
  simulators = (await startSimulators({
    which: ['proxmox', 'winrm', 'guacamole'],
    timeScale: SCALE,
    world: { lockPolling: 'legacy', guests: [] },
  })) as Required<Simulators>;
  closers.push(() => simulators.stop());
}

const journal = () => simulators.context.journal.read();
const lockTimeouts = (): number =>
  journal().filter(
    ({ event, effect, resource }) => event === 'hold' && effect === false && resource === 'storage-ceph',
  ).length;

it('60 at once: no double VMID and nothing for a person to mend, though the storage lock times out and a worker stalls', async () => {
  await theCluster();
  const configDir = await writeSite(simulators, {
    limits: { clonesPerStorage: 16, clonesPerNode: 16, startsPerNode: 30 },
  });
  const bench = await assembled({ simulators, configDir, timeScale: SCALE, stop: async () => {} });
  const { database, caretaker, intake } = bench.assembly;
  const stalled = await SuspendedWorker.start(bench.options);
  closers.push(
    () => bench.close(),
    () => caretaker.stop(),
    () => stalled.stop(),
  );
  simulators.proxmox.hold('qemu.clone', 'task');
  const { batchId } = await intake.create(
    { name: 'l3-info', blueprint: 'student-desktop', rows: people(CLASS), skipExisting: false },
    bench.admin,
    undefined,
  );
  // One worker begins a clone and stands still in the middle of it, for longer than its lease.
  const [first] = await database.query<{ run: string; reserve: string; clone: string }>(
    `select r.id as run, a.id as reserve, b.id as clone from runs r join steps a on a.run_id = r.id and a.key = 'reserve'
       join steps b on b.run_id = r.id and b.key = 'clone' order by r.id limit 1`,
  );
  // Nobody dispatches yet: what it takes is let in by hand.
  await database.query('update steps set slots = null where id = $1', [first!.reserve]);
  stalled.take(first!.reserve);
  await bench.until(`select state = 'done' as ok from steps where id = $1`, [first!.reserve]);
  await database.query('update steps set slots = null where id = $1', [first!.clone]);
  stalled.take(first!.clone);
  await simulators.proxmox.reached('qemu.clone', 'task');
  await stalled.suspend();
  caretaker.start();
  const workers = await Promise.all([bench.assembly.startWorker(32), bench.assembly.startWorker(32)]);
  closers.push(() => Promise.all(workers.map((worker) => worker.stop())));
  await bench.until(`select count(*) = 1 as ok from attempts where outcome = 'lost'`);
  simulators.proxmox.release('qemu.clone', 'task');
  await bench.until(
    `select not exists (select from machines where batch_id = $1 and state not in ('ready', 'parked', 'failed')) as ok`,
    [batchId],
  );
  await stalled.resume();
  const machines = await database.query<{ vmid: number; state: string; error: unknown }>(
    'select vmid, state, error from machines where batch_id = $1',
    [batchId],
  );
  expect(machines.filter(({ state }) => state !== 'ready')).toEqual([]);
  expect(new Set(machines.map(({ vmid }) => vmid)).size).toBe(CLASS);
  const live = simulators.proxmox.guests().filter(({ config }) => config['template'] !== '1');
  expect(new Set(live.map(({ vmid }) => vmid))).toEqual(new Set(machines.map(({ vmid }) => vmid)));
  expect(live).toHaveLength(CLASS);
  expect(live.every(({ status }) => status === 'running')).toBe(true);
  // It was the bad day, and no other.
  expect(lockTimeouts()).toBeGreaterThan(0);
});

it('a naive build: the same class ends with failures and ids given twice', async () => {
  await theCluster();
  // Two portals at the same time, as teachers are.
  const naive = [0, 1].map((endpoint) =>
    NaiveDeployment.on(simulators.proxmox, endpoint, simulators.proxmox.rootToken, {
      pool: POOL,
      from: 10_000,
      to: 19_999,
    }),
  );
  await Promise.all(
    naive.map((one, index) => one.createAll(people(CLASS / 2, `t${index}`).map(({ login }) => login))),
  );
  for (const one of naive) one.close();
  const machines = naive.flatMap((one) => one.machines);
  const ids = machines.flatMap(({ vmid }) => vmid ?? []);
  const live = simulators.proxmox
    .guests()
    .filter(({ vmid, status }) => vmid !== 9000 && status === 'running');
  expect(ids.length - new Set(ids).size + (CLASS - live.length)).toBeGreaterThan(0);
});
