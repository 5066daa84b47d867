import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { formatMark } from '../../src/core/mark.js';
import { assembled, people, type Assembled } from '../support/assembled.js';
import { simulatedSite, type SimulatedSite } from '../support/simulated-site.js';

let site: SimulatedSite;
let bench: Assembled;
let worker: { stop(): Promise<void> };

beforeAll(async () => {
  site = await simulatedSite();
  bench = await assembled(site, { strayMs: 50 });
});
afterAll(async () => {
  await worker?.stop();
  await bench?.assembly.caretaker.stop();
  await bench?.close();
  await site?.stop();
});

const OVER = `select bool_and(state = 'cancelled') as ok from runs`;

async function cancelledMachine(
  login: string,
): Promise<{ id: string; runId: string; vmid: number; step: string }> {
  await bench.assembly.intake.create(
    {
      name: login,
      blueprint: 'student-desktop',
      rows: people(1, login),
      skipExisting: false,
    },
    bench.admin,
    undefined,
  );
  await bench.assembly.intake.cancelBatch(login, bench.admin);
  const [machine] = await bench.assembly.database.query<{
    id: string;
    runId: string;
    vmid: number;
    step: string;
  }>(
    `select m.id, r.id as "runId", m.vmid, s.id as step from machines m join runs r on r.machine_id = m.id join steps s on s.run_id = r.id and s.key = 'clone' where m.login = $1 || '0'`,
    [login],
  );
  return machine!;
}

it('a clone that comes to be after its undo found nothing is undone; a restored machine, a copy and others’ guests stay', async () => {
  const late = await cancelledMachine('late');
  const restored = await cancelledMachine('restored');
  bench.assembly.caretaker.start();
  await bench.until(OVER);
  // As after a crash in mid clone whose undo waited in vain for evidence, and as after a machine that once was ready.
  for (const [machine, confirmed] of [
    [late, null],
    [restored, new Date()],
  ] as const)
    await bench.assembly.database.query(
      `insert into effects (id, kind, version, system, key, step_id, payload, state, confirmed_at, undone_at) values ($1, 'guest', 1, 'main', $2, $3, $4, 'undone', $5, now())`,
      [
        randomUUID(),
        String(machine.vmid),
        machine.step,
        JSON.stringify({ cluster: 'main', vmid: machine.vmid, pool: 'hatchery-demo' }),
        confirmed,
      ],
    );
  const mark = (
    machine: { id: string; runId: string; vmid: number },
    owner = bench.options.deployment,
  ): string =>
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
  worker = await bench.assembly.startWorker(4);
  await bench.until(`select count(*) = 1 as ok from attempts where kind = 'undo' and outcome = 'done'`);
  expect(site.simulators.proxmox.guest(late.vmid)).toBeUndefined();
  await bench.until(OVER);
  for (const vmid of [restored.vmid, 10_500, 10_501])
    expect(site.simulators.proxmox.guest(vmid)?.status).toBe('stopped');
});
