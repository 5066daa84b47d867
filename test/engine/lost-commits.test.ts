import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, expect, it } from 'vitest';
import { loadSite } from '../../src/app/config/site.js';
import { assemble, type Assembly } from '../../src/app/engine/assemble.js';
import { parseMark } from '../../src/core/mark.js';
import { checkJournal } from '../../src/simulators/journal/check.js';
import { people } from '../support/assembled.js';
import { simulatedSite } from '../support/simulated-site.js';
import { copyOfDatabase, redisPrefix, redisUrl, testDatabase } from '../support/stores.js';

const closers: (() => Promise<unknown>)[] = [];
afterAll(async () => {
  for (const close of closers.toReversed()) await close();
});

const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const admin = { userId: randomUUID(), login: 'admin', role: 'admin' } as const;
const READY = `select bool_and(m.state = 'ready') as ok from machines m join batches b on b.id = m.batch_id where b.name = $1`;

it('a database that lost its last minutes goes on with what it knows, and leaves alone what it does not', async () => {
  const site = await simulatedSite();
  const now = await testDatabase();
  closers.push(
    () => site.stop(),
    () => now.drop(),
  );
  const { proxmox, context } = site.simulators;
  const options = {
    redisUrl: redisUrl(),
    deployment: randomUUID(),
    secretKey: randomBytes(32),
    site: loadSite({ configDir: site.configDir, env: {} }),
    remoteTimeScale: site.timeScale,
    log: quiet,
    observe: () => {},
    webhook: { post: async () => {} },
    strayMs: 50,
    times: { overdueMs: 500 },
  };
  const start = async (databaseUrl: string): Promise<{ assembly: Assembly; stop(): Promise<void> }> => {
    const assembly = await assemble({ ...options, databaseUrl, redisPrefix: redisPrefix() });
    assembly.caretaker.start();
    const worker = await assembly.startWorker(16);
    const stop = async (): Promise<void> => {
      await worker.stop();
      await assembly.caretaker.stop();
      await assembly.close();
    };
    return { assembly, stop };
  };
  const create = (assembly: Assembly, name: string) =>
    assembly.intake.create(
      { name, blueprint: 'student-desktop', rows: people(4, name), skipExisting: false },
      admin,
      undefined,
    );
  const until = async (assembly: Assembly, sql: string, values: unknown[] = []): Promise<void> => {
    await expect.poll(() => assembly.database.query(sql, values)).toEqual([{ ok: true }]);
  };
  const vmidsOf = async (assembly: Assembly, name: string): Promise<number[]> => {
    const rows = await assembly.database.query<{ vmid: number }>(
      'select m.vmid from machines m join batches b on b.id = m.batch_id where b.name = $1 order by m.vmid',
      [name],
    );
    return rows.map(({ vmid }) => vmid);
  };

  // A class is in the middle of its clones when the dump is made.
  const before = await start(now.url);
  await before.assembly.database.query(`insert into users (id, login, role) values ($1, 'admin', 'admin')`, [
    admin.userId,
  ]);
  proxmox.hold('qemu.clone', 'task');
  await create(before.assembly, 'dumped');
  await proxmox.reached('qemu.clone', 'task');
  await before.stop();
  const dump = await copyOfDatabase(now);
  closers.push(() => dump.drop());
  proxmox.release('qemu.clone', 'task');

  // It gets ready, and another one is made, of which the dump knows nothing.
  const lost = await start(now.url);
  await until(lost.assembly, READY, ['dumped']);
  await create(lost.assembly, 'lost');
  await until(lost.assembly, READY, ['lost']);
  const known = await vmidsOf(lost.assembly, 'dumped');
  const unknown = await vmidsOf(lost.assembly, 'lost');
  await lost.stop();

  const since = BigInt(context.journal.now());
  const restored = await start(dump.url);
  closers.push(() => restored.stop());
  await until(restored.assembly, READY, ['dumped']);
  await create(restored.assembly, 'next');
  await until(restored.assembly, READY, ['next']);
  const FOUND = `select count(*) = 4 as ok from reservations where kind = 'vmid' and value::int = any ($1) and machine_id is null and rest_until > now() and note like 'found:%'`;
  await until(restored.assembly, FOUND, [unknown]);
  const next = await vmidsOf(restored.assembly, 'next');

  // Exactly one guest each, none of them made twice, and nobody touched those that nobody knows.
  const live = proxmox.guests().filter(({ config }) => parseMark(config['description'] ?? '') !== undefined);
  expect(live.map(({ vmid }) => vmid).toSorted((a, b) => a - b)).toEqual(
    [...known, ...unknown, ...next].toSorted((a, b) => a - b),
  );
  const lines = context.journal.read();
  const clones = lines.filter(
    ({ event, op, effect }) => event === 'task-end' && op === 'qemu.clone' && effect,
  );
  expect(clones).toHaveLength(12);
  const touched = lines.filter(
    (line) => BigInt(line.ns) >= since && line.effect === true && unknown.includes(line.vmid ?? 0),
  );
  expect(touched).toEqual([]);
  expect(await checkJournal(context.journal.file)).toMatchObject({ foreignWrites: 0, collisions: 0 });

  // Its id is not given to anybody when such a guest is gone either.
  proxmox.foreign.remove(unknown[0]!);
  await create(restored.assembly, 'last');
  expect(await vmidsOf(restored.assembly, 'last')).not.toContain(unknown[0]);
  const audit = await restored.assembly.database.query<{ subject: string }>(
    `select subject from audit where action = 'guest.found' order by subject`,
  );
  expect(audit.map(({ subject }) => subject)).toEqual(unknown.map((vmid) => `main/${vmid}`));
});
