import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatMark } from '../../src/core/mark.js';
import { SuspendedWorker } from '../support/suspended-worker.js';
import { StepWorld, type TestMachine } from '../support/step-world.js';
import { kindsOf, thingsOf, thingsOutside, writesFor } from '../support/things-outside.js';

const BLUEPRINT = 'student-desktop';
let world: StepWorld;

beforeAll(async () => {
  world = await StepWorld.start();
});
afterAll(async () => world?.close());

/** Somebody else makes a guest under this VMID; gives its parts as text, to be compared later. */
function intrude(
  vmid: number,
  guest: { kind?: 'qemu' | 'lxc'; name?: string; pool?: string; description?: string; node?: string } = {},
): () => void {
  const { proxmox } = world.site.simulators;
  proxmox.foreign.create({ vmid, node: 'pve2', kind: 'qemu', owner: 'alice', ...guest });
  const look = (): [string, string][] =>
    Object.entries(thingsOutside(world.site)).filter(([name]) => new RegExp(`\\b${vmid}\\b`).test(name));
  const before = look();
  const since = world.now();
  return () => {
    expect(look()).toEqual(before);
    const writes = world.journal(since).filter((line) => line.vmid === vmid && line.effect === true);
    expect(kindsOf(writes)).toEqual([]);
  };
}

async function reservationOf(vmid: number): Promise<{ isResting: boolean; note: string | null }> {
  return world.one(
    `select rest_until > now() as "isResting", note from reservations where kind = 'vmid' and value = $1`,
    [String(vmid)],
  );
}

/** Runs up to the clone and gives the id that it has then. */
async function cloned(machine: TestMachine): Promise<number> {
  await world.open(machine, ['reserve', 'clone']);
  await world.stepIs('done', machine, 'clone');
  return world.vmid(machine);
}

/** Gives a machine up, which leaves nothing of it. */
async function givenUp(machine: TestMachine): Promise<void> {
  const vmid = await world.vmid(machine);
  await world.assembly.intake.cancelBatch(machine.batch, world.admin);
  await world.runsAre('cancelled', [machine]);
  expect(world.site.simulators.proxmox.guest(vmid)).toBeUndefined();
}

/** Up to where the id is confirmed as free and the clone is due. */
async function reserved(): Promise<{ machine: TestMachine; vmid: number }> {
  const machine = await world.create(BLUEPRINT);
  await world.open(machine, ['reserve']);
  await world.kept(machine, 'clone');
  return { machine, vmid: await world.vmid(machine) };
}

// Side by side: each has an id of its own.
describe.concurrent('reserve-vmid', () => {
  it.each(['qemu', 'lxc'] as const)(
    'takes the next id when a foreign guest (%s) has the reserved one, which rests and says why',
    async (kind) => {
      const machine = await world.create(BLUEPRINT);
      const burnt = await world.vmid(machine);
      const isUntouched = intrude(burnt, { kind });
      expect(await cloned(machine)).not.toBe(burnt);
      expect(await reservationOf(burnt)).toEqual({
        isResting: true,
        note: expect.stringContaining('foreign guest') as string,
      });
      isUntouched();
      await givenUp(machine);
    },
  );
});

describe.concurrent('clone-template', () => {
  it.each([
    ['before the clone is asked for', 'pve2'],
    ['before it, on the template’s own node', 'pve1'],
  ])('goes to another id when a foreign guest comes %s', async (_when, node) => {
    const { machine, vmid } = await reserved();
    const isUntouched = intrude(vmid, { node });
    expect(await cloned(machine)).not.toBe(vmid);
    expect((await reservationOf(vmid)).note).toContain('foreign guest');
    isUntouched();
    await givenUp(machine);
    isUntouched();
  });

  it('adopts no guest for its name, its pool or a mark that was copied with it', async () => {
    const { machine, vmid } = await reserved();
    const copied = (to: number): string =>
      formatMark({
        deployment: world.options.deployment,
        machine: machine.id,
        run: machine.runId,
        step: 'clone',
        vmid: to,
        attempt: 1,
      });
    const guest = { name: machine.name, pool: 'hatchery-demo' };
    const checks = [
      intrude(vmid, { ...guest, description: copied(vmid + 500) }),
      intrude(vmid + 1_000, { ...guest, description: copied(vmid) }),
      intrude(vmid + 1_001, guest),
    ];
    expect(await cloned(machine)).not.toBe(vmid);
    await givenUp(machine);
    for (const isUntouched of checks) isUntouched();
  });

  it('does not burn the id of its own guest whose mark somebody wiped out, but asks a person', async () => {
    const { machine, vmid } = await reserved();
    await cloned(machine);
    const { proxmox } = world.site.simulators;
    const description = proxmox.guest(vmid)!.config['description']!;
    proxmox.foreign.edit(vmid, { description: 'tidied up' });
    await world.loseCommit(machine, 'clone');
    await world.stepIs('parked', machine, 'clone');
    expect(await world.vmid(machine)).toBe(vmid);
    const { error } = await world.one<{ error: unknown }>('select error from machines where id = $1', [
      machine.id,
    ]);
    expect(error).toMatchObject({ code: 'foreign-guest' });
    proxmox.foreign.edit(vmid, { description });
    await world.assembly.intake.retryRun(machine.runId, world.admin);
    await world.stepIs('done', machine, 'clone');
    await givenUp(machine);
  });

  it('removes what its own failed clone left behind, and clones again', async () => {
    const { machine, vmid } = await reserved();
    world.site.simulators.context.faults.add({
      id: 'late-time-out',
      match: { op: 'qemu.clone', vmid, nth: 1 },
      when: 'after',
      effect: 'task-error',
      value: "clone failed: cfs-lock 'file-user_cfg' error: got lock request timeout",
    });
    expect(await cloned(machine)).toBe(vmid);
    const lines = writesFor(world.journal(), machine, vmid).filter((line) =>
      ['qemu.clone', 'qemu.destroy'].includes(line.op ?? ''),
    );
    expect(lines.map((line) => line.op)).toEqual(['qemu.clone', 'qemu.destroy', 'qemu.clone']);
    await givenUp(machine);
  });

  it('parks with nothing left when the cluster refuses for good, and goes on when somebody made room', async () => {
    const { machine, vmid } = await reserved();
    const { faults } = world.site.simulators.context;
    faults.add({
      id: 'no-space',
      match: { op: 'qemu.clone', vmid },
      effect: 'task-error',
      value: 'clone failed: rbd create error: (28) No space left on device',
    });
    await world.open(machine, ['clone']);
    await world.stepIs('parked', machine, 'clone');
    const { error } = await world.one<{ error: unknown }>('select error from machines where id = $1', [
      machine.id,
    ]);
    expect(error).toMatchObject({ message: expect.stringContaining('No space left') as string });
    expect(thingsOf(world.site, machine, vmid)).toEqual([]);
    faults.remove('no-space');
    await world.assembly.intake.retryRun(machine.runId, world.admin);
    expect(await cloned(machine)).toBe(vmid);
    await givenUp(machine);
  });

  it('is undone without a write when its worker was lost with the intent only and a foreign guest has the id by now', async () => {
    const { machine, vmid } = await reserved();
    const worker = await SuspendedWorker.start(world.options);
    const stands = worker.stopsAt('K2', machine.runId, 'clone');
    await world.give(machine, 'clone', (id) => worker.take(id));
    await stands;
    await worker.suspend();
    const isUntouched = intrude(vmid, { node: 'pve1' });
    await world.assembly.intake.cancelBatch(machine.batch, world.admin);
    await world.runsAre('cancelled', [machine]);
    await worker.stop();
    isUntouched();
  });
});

describe('clone-template, with the cluster held', () => {
  it.each([
    ['the cluster refuses the request', 'pve1', 'before'],
    ['the task finds the id taken', 'pve2', 'task-start'],
  ] as const)(
    'goes to another id when a foreign guest comes in between and %s',
    async (_how, node, where) => {
      const { machine, vmid } = await reserved();
      const { proxmox } = world.site.simulators;
      proxmox.hold('qemu.clone', where);
      await world.open(machine);
      await proxmox.reached('qemu.clone', where);
      const isUntouched = intrude(vmid, { node });
      proxmox.release('qemu.clone', where);
      await world.runsAre('done', [machine]);
      expect(await world.vmid(machine)).not.toBe(vmid);
      expect((await reservationOf(vmid)).note).toContain('foreign guest');
      isUntouched();
      await givenUp(machine);
    },
  );
});
