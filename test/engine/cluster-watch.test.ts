import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { formatMark } from '../../src/core/mark.js';
import { assembled, people, type Assembled } from '../support/assembled.js';
import { simulatedSite, writeSite, type SimulatedSite } from '../support/simulated-site.js';

let site: SimulatedSite;
let bench: Assembled;
let worker: { stop(): Promise<void> };

beforeAll(async () => {
  site = await simulatedSite();
  bench = await assembled(site, { watchMs: 100, times: { overdueMs: 300 } });
  bench.assembly.caretaker.start();
  worker = await bench.assembly.startWorker(8);
});
afterAll(async () => {
  await worker?.stop();
  await bench?.assembly.caretaker.stop();
  await bench?.close();
  await site?.stop();
});

const STOPPED = `select exists (select from cluster_stops where cluster = 'main') as ok`;
const READY = `select bool_and(state = 'ready') as ok from machines where batch_id = $1`;
const WORKING = `select not exists (select from cluster_stops where cluster = 'main') as ok`;

const create = (name: string, count = 1) =>
  bench.assembly.intake.create(
    { name, blueprint: 'student-desktop', rows: people(count, name), skipExisting: false },
    bench.admin,
    undefined,
  );

const markOf = (vmid: number, deployment: string): string =>
  formatMark({ deployment, machine: randomUUID(), run: randomUUID(), step: 'clone', vmid, attempt: 1 });

/** A guest of somebody else's in our range. */
const intrude = (vmid: number, over: { description?: string; pool?: string }) =>
  site.simulators.proxmox.foreign.create({ vmid, node: 'pve2', kind: 'qemu', owner: 'other', ...over });

it.each<[string, { description?: string; pool?: string }]>([
  ['bears the mark of another deployment', { description: `Lab\n${markOf(15_000, randomUUID())}` }],
  ['is in the pool of another deployment', { pool: 'hatchery-test' }],
])('a guest in our range that %s stops new batches, until it is gone', async (_what, over) => {
  site.simulators.context.world.pools.set('hatchery-test', {
    comment: '',
    members: new Set(),
    storages: new Set(),
  });
  await expect(create(`before-${over.pool ?? 'mark'}`)).resolves.toBeDefined();
  intrude(15_000, over);
  await bench.until(STOPPED);
  await expect(create('during')).rejects.toMatchObject({
    code: 'foreign-guest',
    message: expect.stringContaining('another Hatchery deployment has guests in our VMID range') as string,
    hint: expect.stringContaining('vmids in clusters/main.yaml') as string,
  });
  site.simulators.proxmox.foreign.remove(15_000);
  await bench.until(WORKING);
  await expect(create(`after-${over.pool ?? 'mark'}`)).resolves.toBeDefined();
});

it('neither a person’s guest, nor a copy of another deployment’s guest, nor our own moved into another pool stops anything', async () => {
  intrude(15_100, { description: 'somebody’s' });
  intrude(15_101, { description: markOf(12_345, randomUUID()) });
  const { batchId } = await create('moved');
  await bench.until(READY, [batchId]);
  const [machine] = await bench.assembly.database.query<{ vmid: number }>(
    'select vmid from machines where batch_id = $1',
    [batchId],
  );
  const { pools } = site.simulators.context.world;
  pools.get('hatchery-demo')!.members.delete(machine!.vmid);
  pools.set('hatchery-test', { comment: '', members: new Set([machine!.vmid]), storages: new Set() });
  const reads = (): number =>
    site.simulators.context.journal.read().filter((line) => line.op === 'cluster.resources').length;
  const before = reads();
  await expect.poll(reads).toBeGreaterThan(before + 1);
  await bench.until(WORKING);
});

it('while a cluster is stopped no step of it begins, and work goes on by itself afterwards', async () => {
  intrude(15_200, { description: markOf(15_200, randomUUID()) });
  const { proxmox } = site.simulators;
  proxmox.foreign.edit(15_200, { description: 'not yet' });
  await bench.until(WORKING);
  proxmox.hold('qemu.clone', 'before');
  const { batchId } = await create('held');
  await proxmox.reached('qemu.clone', 'before');
  proxmox.foreign.edit(15_200, { description: markOf(15_200, randomUUID()), name: 'theirs' });
  await bench.until(STOPPED);
  proxmox.release('qemu.clone', 'before');
  const CLONED = `select bool_or(s.key = 'clone' and s.state = 'done') as ok from steps s join runs r on r.id = s.run_id where r.batch_id = $1`;
  await bench.until(CLONED, [batchId]);
  const begun = `select count(*)::int as count from steps s join runs r on r.id = s.run_id where r.batch_id = $1 and s.key in ('configure', 'start') and s.epoch > 0`;
  const [count] = await bench.assembly.database.query<{ count: number }>(begun, [batchId]);
  expect(count).toEqual({ count: 0 });
  proxmox.foreign.remove(15_200);
  await bench.until(READY, [batchId]);
});

it('while a person pauses a cluster its running steps end, batches are accepted, and nothing begins until it is resumed', async () => {
  const { clusterPauses, intake, database } = bench.assembly;
  const { proxmox, context } = site.simulators;
  const since = BigInt(context.journal.now());
  const written = () =>
    context.journal
      .read()
      .filter((line) => BigInt(line.ns) >= since && line.event === 'task-end' && line.effect)
      .map((line) => line.op);
  proxmox.hold('qemu.clone', 'before');
  const { batchId } = await create('paused');
  await proxmox.reached('qemu.clone', 'before');
  await expect(clusterPauses.pause('main', { actor: 'admin', why: 'new switch' })).resolves.toBe(true);
  await expect(clusterPauses.pause('main', { actor: 'admin', why: 'new switches' })).resolves.toBe(false);
  proxmox.release('qemu.clone', 'before');
  const { batchId: waiting } = await create('waits');
  const { batchId: leaving } = await create('leaves');
  await intake.cancelBatch('leaves', bench.admin);
  await bench.until(
    `select bool_and(s.state = 'done') as ok from steps s join runs r on r.id = s.run_id where r.batch_id = $1 and s.key = 'clone'`,
    [batchId],
  );
  const [{ refused } = { refused: 0 }] = await database.query<{ refused: number }>(
    `select count(*)::int as refused from steps s join runs r on r.id = s.run_id where r.batch_id = any ($1) and s.epoch > 0`,
    [[waiting, leaving]],
  );
  expect([written(), refused]).toEqual([['qemu.clone'], 0]);
  const [stop] = await bench.assembly.parts.stops.of('main');
  expect(stop).toMatchObject({
    code: 'cluster-paused',
    message: 'Unable to begin anything on cluster main: admin paused it (new switches)',
  });
  await expect(clusterPauses.resume('main', 'admin')).resolves.toBe(true);
  await expect(clusterPauses.resume('main', 'admin')).resolves.toBe(false);
  await bench.until(READY, [batchId]);
  await bench.until(READY, [waiting]);
  const audit = await database.query<{ actor: string; action: string }>(
    `select actor, action from audit where subject = 'main' and detail ->> 'reason' = 'paused' order by id`,
  );
  expect(audit).toEqual([
    { actor: 'admin', action: 'cluster.pause' },
    { actor: 'admin', action: 'cluster.resume' },
  ]);
});

it('rights on guests of others stop a cluster before anything is written, and work goes on when they are taken away', async () => {
  const { world, journal } = site.simulators.context;
  const before = [...world.acl];
  for (const ugid of [world.tokenId, world.tokenId.split('!')[0]!])
    world.acl.push({ path: '/vms', ugid, role: 'PVEVMAdmin', propagate: true });
  // With a range of its own: the guests of the tests above are another deployment's to this one.
  const configDir = await writeSite(site.simulators, { vmids: { from: 16_000, to: 16_099 } });
  const mighty = await assembled({ ...site, configDir }, { watchMs: 100 });
  const written = (): number => journal.read().filter((line) => line.event === 'task-start').length;
  const tasks = written();
  mighty.assembly.caretaker.start();
  await mighty.until(`select exists (select from cluster_stops where reason = 'token-rights') as ok`);
  const order = {
    name: 'mighty',
    blueprint: 'student-desktop',
    rows: people(1, 'mighty'),
    skipExisting: false,
  };
  await expect(mighty.assembly.intake.create(order, mighty.admin, undefined)).rejects.toMatchObject({
    code: 'permission-missing',
    message: expect.stringContaining('may write outside the pool hatchery-demo') as string,
  });
  expect(written()).toBe(tasks);
  world.acl = before;
  await mighty.until(WORKING);
  await expect(mighty.assembly.intake.create(order, mighty.admin, undefined)).resolves.toBeDefined();
  await mighty.assembly.caretaker.stop();
  await mighty.close();
});
