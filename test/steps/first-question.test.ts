import { afterAll, beforeAll, expect, it } from 'vitest';
import type { JournalLine } from '../../src/simulators/journal.js';
import { newName, StepWorld, type TestMachine } from '../support/step-world.js';

const CLASS = 16;
const BLUEPRINT = 'student-desktop';
let world: StepWorld;

beforeAll(async () => {
  world = await StepWorld.start({ site: { timeScale: 0.05 } });
});
afterAll(async () => world?.close());

/** A class whose machines boot in 100 s of the simulated time, one in ten more or less. */
async function bootClass(): Promise<TestMachine[]> {
  const machines = await world.createBatch(
    BLUEPRINT,
    Array.from({ length: CLASS }, () => newName('s')),
  );
  for (const [nth, machine] of machines.entries()) {
    const afterMs = 100_000 * (0.9 + (0.2 * nth) / (CLASS - 1));
    world.site.simulators.proxmox.conditions.setAgent(await world.vmid(machine), { afterMs, extraNics: 0 });
  }
  for (const machine of machines) await world.open(machine);
  await world.runsAre('done', machines);
  return machines;
}

const questions = async (machines: readonly TestMachine[]): Promise<JournalLine[]> => {
  const vmids = new Set(await Promise.all(machines.map((machine) => world.vmid(machine))));
  return world
    .journal()
    .filter(
      ({ event, op, vmid }) => event === 'request' && op === 'qemu.agent.interfaces' && vmids.has(vmid!),
    );
};

it('a second class asks each guest agent about once, because the first one taught when it is up', async () => {
  const first = await bootClass();
  expect((await questions(first)).length).toBeGreaterThan(2 * CLASS);
  const { durations } = world.assembly;
  await world.until('the first class is counted', async () => {
    await durations.learn();
    return (await durations.of('main', BLUEPRINT, 'address'))?.count === CLASS;
  });
  const second = await bootClass();
  // At a twentieth of the time a busy machine makes some boots late.
  expect((await questions(second)).length).toBeLessThanOrEqual(1.6 * CLASS);
  for (const machine of second)
    expect(await world.one('select address from machines where id = $1', [machine.id])).toMatchObject({
      address: expect.any(String) as string,
    });
});
