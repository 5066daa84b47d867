import { afterAll, beforeAll, expect, it } from 'vitest';
import { assembled, people, type Assembled } from '../support/assembled.js';
import { simulatedSite, type SimulatedSite } from '../support/simulated-site.js';

let site: SimulatedSite;
let bench: Assembled;
const closers: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  site = await simulatedSite({
    cluster: { limits: { clonesPerStorage: 4, clonesPerNode: 4, startsPerNode: 8 } },
  });
  bench = await assembled(site, { times: { heartbeatMs: 100, overdueMs: 500 } });
  closers.push(
    () => site.stop(),
    () => bench.close(),
    () => bench.assembly.caretaker.stop(),
  );
  bench.assembly.caretaker.start();
});
afterAll(async () => {
  for (const close of closers.toReversed()) await close();
});

const READY = `select bool_and(m.state = 'ready') as ok from machines m join batches b on b.id = m.batch_id where b.name = $1`;
const CLONES = `from attempts a join steps s on s.id = a.step_id and s.key = 'clone' join runs r on r.id = s.run_id
  join batches b on b.id = r.batch_id where b.name = $1`;

const create = (name: string, count: number) =>
  bench.assembly.intake.create(
    { name, blueprint: 'student-desktop', rows: people(count, name), skipExisting: false },
    bench.admin,
    undefined,
  );

const live = () =>
  bench.assembly.database.query<{ id: string; lease_until: Date; is_draining: boolean }>(
    'select id, lease_until, drain_at is not null as is_draining from workers where stopped_at is null order by started_at',
  );

async function startWorker(onDrained?: () => void): Promise<{ id: string; stop(): Promise<void> }> {
  const before = new Set((await live()).map(({ id }) => id));
  const worker = await bench.assembly.startWorker(8, onDrained);
  closers.push(() => worker.stop());
  const started = (await live()).find(({ id }) => !before.has(id));
  return { id: started!.id, stop: worker.stop };
}

async function heartbeat(id: string): Promise<void> {
  const lease = async (): Promise<number> =>
    (await live()).find((one) => one.id === id)!.lease_until.getTime();
  const before = await lease();
  await expect.poll(lease).toBeGreaterThan(before);
}

/** Clone requests that were accepted, and tasks that somebody stopped. */
const clones = (since: bigint): { sent: number; stopped: number } => {
  const lines = site.simulators.context.journal.read().filter((line) => BigInt(line.ns) >= since);
  return {
    sent: lines.filter((line) => line.event === 'request' && line.op === 'qemu.clone' && line.status === 200)
      .length,
    stopped: lines.filter((line) => line.event === 'request' && line.op === 'task.stop').length,
  };
};

it('a worker that is told to end leaves its clones to go on, and another one follows them to their end', async () => {
  const { proxmox, context } = site.simulators;
  const since = BigInt(context.journal.now());
  proxmox.hold('qemu.clone', 'task');
  const first = await startWorker();
  await create('told', 3);
  await proxmox.reached('qemu.clone', 'task', 3);
  await first.stop();
  const given = `select count(*) = 3 as ok ${CLONES} and a.outcome = 'handed-over' and a.worker_id = '${first.id}'`;
  await bench.until(given, ['told']);
  const second = await startWorker();
  await bench.until(`select count(*) = 3 as ok from steps where worker_id = $1 and key = 'clone'`, [
    second.id,
  ]);
  proxmox.release('qemu.clone', 'task');
  await bench.until(READY, ['told']);
  expect(clones(since)).toEqual({ sent: 3, stopped: 0 });
  await bench.until(`select bool_and(deaths = 0) as ok from runs`);
  await second.stop();
});

it('a worker that a person drains brings to its end what it has, takes nothing new, and ends', async () => {
  const { proxmox } = site.simulators;
  const { workers } = bench.assembly;
  proxmox.hold('qemu.clone', 'task');
  let hasEnded = false;
  const first = await startWorker(() => (hasEnded = true));
  await create('mine', 2);
  await proxmox.reached('qemu.clone', 'task', 2);
  await expect(workers.drain(first.id, 'admin')).resolves.toBe(true);
  await expect(workers.drain(first.id, 'admin')).resolves.toBe(false);
  // It has heard of it when it has sent a heartbeat after the next one.
  for (let beats = 0; beats < 2; beats += 1) await heartbeat(first.id);
  await create('theirs', 2);
  const second = await startWorker();
  await bench.until(
    `select bool_and(s.state = 'done') as ok from steps s join runs r on r.id = s.run_id join batches b on b.id = r.batch_id where b.name = $1 and s.key = 'reserve'`,
    ['theirs'],
  );
  expect(await live()).toMatchObject([
    { id: first.id, is_draining: true },
    { id: second.id, is_draining: false },
  ]);
  expect(hasEnded).toBe(false);
  proxmox.release('qemu.clone', 'task');
  await expect.poll(() => hasEnded).toBe(true);
  for (const name of ['mine', 'theirs']) await bench.until(READY, [name]);
  const by = await bench.assembly.database.query<{ name: string; outcome: string; mine: boolean }>(
    `select distinct b.name, a.outcome, a.worker_id = $1 as mine from attempts a join steps s on s.id = a.step_id and s.key = 'clone'
       join runs r on r.id = s.run_id join batches b on b.id = r.batch_id where b.name in ('mine', 'theirs') order by b.name`,
    [first.id],
  );
  expect(by).toEqual([
    { name: 'mine', outcome: 'done', mine: true },
    { name: 'theirs', outcome: 'done', mine: false },
  ]);
  await expect(workers.drain(first.id, 'admin')).resolves.toBe(false);
  expect((await live()).map(({ id }) => id)).toEqual([second.id]);
});
