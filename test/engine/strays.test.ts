import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { assemble, type Assembly } from '../../src/app/engine/assemble.js';
import { loadSite } from '../../src/app/config/site.js';
import { formatMark } from '../../src/core/mark.js';
import { systemClock } from '../../src/drivers/system-clock.js';
import type { Actor } from '../../src/engine/intake.js';
import { redisPrefix, redisUrl, testDatabase, type TestDatabase } from '../support/stores.js';
import { simulatedSite, type SimulatedSite } from '../support/simulated-site.js';

const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const deployment = randomUUID();
let site: SimulatedSite;
let database: TestDatabase;
let assembly: Assembly;
let worker: { stop(): Promise<void> };
const admin: Actor = { userId: randomUUID(), login: 'admin', role: 'admin' };

beforeAll(async () => {
  site = await simulatedSite();
  database = await testDatabase();
  assembly = await assemble({
    databaseUrl: database.url,
    redisUrl: redisUrl(),
    redisPrefix: redisPrefix(),
    deployment,
    secretKey: randomBytes(32),
    site: loadSite({ configDir: site.configDir, env: {} }),
    remoteTimeScale: site.timeScale,
    log: quiet,
    observe: () => {},
    webhook: { post: async () => {} },
    strayMs: 50,
  });
  await assembly.database.query('insert into users (id, login, role) values ($1, $2, $3)', [
    admin.userId,
    admin.login,
    admin.role,
  ]);
});
afterAll(async () => {
  await worker?.stop();
  await assembly?.caretaker.stop();
  await assembly?.close();
  await database?.drop();
  await site?.stop();
});

async function cancelledMachine(
  login: string,
): Promise<{ id: string; runId: string; vmid: number; step: string }> {
  await assembly.intake.create(
    {
      name: login,
      blueprint: 'student-desktop',
      rows: [{ row: 2, login, loginKey: login, lastName: '', firstName: '', sshKeys: [] }],
      skipExisting: false,
    },
    admin,
    undefined,
  );
  await assembly.intake.cancelBatch(login, admin);
  const [machine] = await assembly.database.query<{ id: string; runId: string; vmid: number; step: string }>(
    `select m.id, r.id as "runId", m.vmid, s.id as step from machines m join runs r on r.machine_id = m.id join steps s on s.run_id = r.id and s.key = 'clone' where m.login = $1`,
    [login],
  );
  return machine!;
}

async function until(what: string, isTrue: () => Promise<boolean> | boolean): Promise<void> {
  for (const endsAt = performance.now() + 15_000; !(await isTrue()); await systemClock.sleep(20))
    if (performance.now() > endsAt) throw new Error(`never happened: ${what}`);
}

it('a clone that comes to be after its undo found nothing is undone; a restored machine, a copy and others’ guests stay', async () => {
  const late = await cancelledMachine('late');
  const restored = await cancelledMachine('restored');
  const over = (): Promise<boolean> =>
    assembly.database
      .query<{ ok: boolean }>(`select bool_and(state = 'cancelled') as ok from runs`)
      .then(([row]) => row!.ok);
  assembly.caretaker.start();
  await until('both runs are over', over);
  // As after a crash in mid clone whose undo waited in vain for evidence, and as after a machine that once was ready.
  for (const [machine, confirmed] of [
    [late, null],
    [restored, new Date()],
  ] as const)
    await assembly.database.query(
      `insert into effects (id, kind, version, system, key, step_id, payload, state, confirmed_at, undone_at) values ($1, 'guest', 1, 'main', $2, $3, $4, 'undone', $5, now())`,
      [
        randomUUID(),
        String(machine.vmid),
        machine.step,
        JSON.stringify({ cluster: 'main', vmid: machine.vmid, pool: 'hatchery-demo' }),
        confirmed,
      ],
    );
  const mark = (machine: { id: string; runId: string; vmid: number }, owner = deployment): string =>
    `someone\n${formatMark({ deployment: owner, machine: machine.id, run: machine.runId, step: 'clone', vmid: machine.vmid, attempt: 1 })}`;
  const put = (vmid: number, description: string): void => {
    site.simulators.proxmox.foreign.create({
      vmid,
      node: 'pve1',
      kind: 'qemu',
      owner: 'late',
      pool: 'hatchery-demo',
      running: false,
      description,
    });
  };
  put(restored.vmid, mark(restored));
  put(10_500, mark(late));
  put(10_501, mark({ ...late, vmid: 10_501 }, randomUUID()));
  put(late.vmid, mark(late));
  worker = await assembly.startWorker(4);
  await until('the late guest is gone', () => site.simulators.proxmox.guest(late.vmid) === undefined);
  await until('its run is over again', over);
  for (const vmid of [restored.vmid, 10_500, 10_501])
    expect(site.simulators.proxmox.guest(vmid)?.status).toBe('stopped');
});
