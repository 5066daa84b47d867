import { afterAll, beforeAll, expect, it } from 'vitest';
import { assembled, people, type Assembled } from '../support/assembled.js';
import { judged } from '../support/judged.js';
import { simulatedSite, type SimulatedSite } from '../support/simulated-site.js';

let site: SimulatedSite;
let bench: Assembled;
let worker: { stop(): Promise<void> };

beforeAll(async () => {
  site = await simulatedSite();
  bench = await assembled(site, { strayMs: 50 });
  bench.assembly.caretaker.start();
  worker = await bench.assembly.startWorker(4);
});
afterAll(async () => {
  await worker?.stop();
  await bench?.assembly.caretaker.stop();
  await bench?.close();
  await site?.stop();
});

interface Made {
  readonly id: string;
  readonly runId: string;
  readonly vmid: number;
}

async function readyMachine(login: string): Promise<Made> {
  const request = {
    name: login,
    blueprint: 'student-desktop',
    rows: people(1, login),
    skipExisting: false,
  };
  await bench.assembly.intake.create(request, bench.admin, undefined);
  await untilMachine(login, 'ready');
  return machineOf(login);
}

async function machineOf(login: string): Promise<Made> {
  const [machine] = await bench.assembly.database.query<Made>(
    `select m.id, r.id as "runId", m.vmid from machines m join runs r on r.machine_id = m.id where m.login = $1 || '0' and m.state <> 'deleted' order by r.id desc`,
    [login],
  );
  return machine!;
}

const untilMachine = (login: string, state: string): Promise<void> =>
  bench.until(`select exists (select 1 from machines where login = $1 || '0' and state = $2) as ok`, [
    login,
    state,
  ]);

async function effectOf({ runId }: Made, kind: string): Promise<string> {
  const [effect] = await bench.assembly.database.query<{ id: string }>(
    'select e.id from effects e join steps s on s.id = e.step_id where s.run_id = $1 and e.kind = $2',
    [runId, kind],
  );
  return effect!.id;
}

const audits = (runId: string): Promise<{ actor: string; action: string; reason: string | null }[]> =>
  bench.assembly.database.query(
    `select actor, action, detail ->> 'reason' as reason from audit where subject = $1 order by id`,
    [runId],
  );

it('a guest whose mark somebody wiped is let go of: it stays, the rest is undone, and nobody takes it for a stray', async () => {
  const machine = await readyMachine('wiped');
  site.simulators.proxmox.foreign.edit(machine.vmid, { description: 'mine now' });
  await bench.assembly.intake.deleteMachine(machine.id, bench.admin);
  await untilMachine('wiped', 'parked');
  const guest = await effectOf(machine, 'guest');
  const { runHandles } = bench.assembly;
  await expect(runHandles.adopt(machine.runId, guest, 'it is ours', bench.admin)).rejects.toMatchObject({
    code: 'foreign-guest',
    hint: expect.stringContaining(`hatchery run release ${machine.runId} ${guest}`),
  });
  await runHandles.release(machine.runId, guest, 'given to a colleague', bench.admin);
  await untilMachine('wiped', 'deleted');
  // Back under our mark, as a stray would be.
  expect(site.simulators.proxmox.guest(machine.vmid)?.status).toBe('running');
  expect(await bench.assembly.parts.store.recordStray(machine.id, guestIntent(machine.vmid))).toBeUndefined();
  expect(await audits(machine.runId)).toEqual([
    { actor: 'admin', action: 'run.release', reason: 'given to a colleague' },
  ]);
  const [row] = await bench.assembly.database.query(
    'select released_by, released_why, undone_at from effects where id = $1',
    [guest],
  );
  expect(row).toEqual({ released_by: 'admin', released_why: 'given to a colleague', undone_at: null });
});

const guestIntent = (vmid: number) => ({
  kind: 'guest',
  version: 1,
  system: 'main',
  key: String(vmid),
  payload: { cluster: 'main', vmid, pool: 'hatchery-demo' },
});

it('a guest that was restored from a backup is adopted by its mark, and then removed', async () => {
  const machine = await readyMachine('restored');
  site.simulators.proxmox.foreign.edit(machine.vmid, {
    smbios1: 'uuid=11111111-2222-4333-8444-555555555555',
  });
  await bench.assembly.intake.deleteMachine(machine.id, bench.admin);
  await untilMachine('restored', 'parked');
  const { runHandles, intake } = bench.assembly;
  const guest = await effectOf(machine, 'guest');
  expect(await runHandles.adopt(machine.runId, guest, 'restored on Monday', bench.admin)).toEqual({
    proof: expect.stringContaining(`machine=${machine.id}`),
  });
  await intake.retryRun(machine.runId, bench.admin);
  await untilMachine('restored', 'deleted');
  expect(site.simulators.proxmox.guest(machine.vmid)).toBeUndefined();
  expect((await audits(machine.runId)).map(({ action }) => action)).toEqual(['run.adopt', 'run.retry']);
});

it('what a ready machine is made of can be let go of, and a delete then leaves it', async () => {
  const machine = await readyMachine('kept');
  const { runHandles } = bench.assembly;
  const kinds = ['dhcp-filter', 'desktop-group', 'desktop-user', 'desktop-connection', 'desktop-permission'];
  for (const kind of kinds)
    expect(
      await runHandles.adopt(machine.runId, await effectOf(machine, kind), 'a look', bench.admin),
    ).toEqual({ proof: expect.any(String) });
  await runHandles.release(machine.runId, await effectOf(machine, 'guest'), 'kept by its owner', bench.admin);
  await runHandles.cancel(machine.runId, bench.admin);
  await untilMachine('kept', 'deleted');
  expect(site.simulators.proxmox.guest(machine.vmid)?.status).toBe('running');
  await expect(runHandles.cancel(machine.runId, bench.admin)).rejects.toMatchObject({
    code: 'not-applicable',
  });
});

it('failed machines of a batch are made anew under the same names, in one call, and the failed ones are gone', async () => {
  const { intake, database } = bench.assembly;
  const request = {
    name: 'again',
    blueprint: 'student-desktop',
    rows: people(3, 'again'),
    skipExisting: false,
  };
  await intake.create(request, bench.admin, undefined);
  await bench.until(`select count(*) = 3 as ok from machines where state = 'ready' and login like 'again%'`);
  for (const login of ['again0', 'again1']) {
    const [machine] = await database.query<{ id: string }>('select id from machines where login = $1', [
      login,
    ]);
    await intake.deleteMachine(machine!.id, bench.admin);
  }
  await bench.until(
    `select count(*) = 2 as ok from machines where state = 'deleted' and login like 'again%'`,
  );
  // As a failure whose undo has ended leaves them.
  await database.query(
    `with f as (update machines set state = 'failed', error = '{"code":"no-capacity","message":"full"}', deleted_at = null
                 where login in ('again0', 'again1') returning id)
     update runs set state = 'failed', undo_ends_as = 'failed' where machine_id in (select id from f)`,
  );
  await expect(
    intake.retryBatch('again', { which: 'failed', code: 'foreign-guest' }, bench.admin),
  ).rejects.toMatchObject({ code: 'not-applicable' });
  const { runId } = await machineOf('again');
  expect(await intake.retryBatch('again', { which: 'all', code: 'no-capacity' }, bench.admin)).toEqual({
    resumed: 0,
    replaced: 2,
  });
  await bench.until(
    `select count(*) filter (where state = 'ready') = 3 and count(*) filter (where state = 'deleted') = 2 as ok from machines where login like 'again%'`,
  );
  const rows = await database.query<{ name: string; count: number }>(
    `select name, count(*)::int as count from machines where login like 'again%' and state = 'ready' group by name order by name`,
  );
  expect(rows.map(({ count }) => count)).toEqual([1, 1, 1]);
  await expect(intake.retryRun(runId, bench.admin)).rejects.toMatchObject({ code: 'not-applicable' });
});

it('what people let go of is no orphan by the journal and the export, and nothing else is left', async () => {
  const verdict = await judged({ site, options: bench.options }, []);
  expect(verdict).toMatchObject({ findings: [], missing: [] });
});
