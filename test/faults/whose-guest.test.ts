import { afterAll, beforeAll, expect, it } from 'vitest';
import { causeFaults } from '../support/fault-file.js';
import { StepWorld } from '../support/step-world.js';
import { writesFor } from '../support/things-outside.js';

let world: StepWorld;

beforeAll(async () => {
  world = await StepWorld.start();
});
afterAll(async () => world?.close());

const WRITES =
  /^qemu\.(config\.p(os|u)t|resize|destroy|start|stop|shutdown|template|snapshot|rollback|move_?disk|unlink|migrate)/;

/** Requests that would have changed the guest under this VMID since somebody else has it. */
function writesSinceForeign(vmid: number): string[] {
  const lines = world.journal().filter((line) => line.vmid === vmid);
  const came = lines.findIndex((line) => line.op === 'foreign.create');
  expect(came).toBeGreaterThanOrEqual(0);
  return lines
    .slice(came)
    .filter((line) => line.event === 'request' && WRITES.test(line.op ?? ''))
    .map((line) => line.op ?? '');
}

it('F03: the clean-up of a failed clone leaves whoever has taken its id alone', async () => {
  const machine = await world.create('student-desktop');
  const vmid = await world.vmid(machine);
  const caused = causeFaults(world.site, 'F03-freed-id-taken', { vmid });
  await world.open(machine);
  await world.until(
    'the fault has come',
    () => (world.site.simulators.proxmox.guest(vmid)?.owner ?? '') === 'alice',
  );
  await world.until('the run rests', async () =>
    ['done', 'parked', 'failed'].includes(await world.runState(machine)),
  );
  await world.assembly.intake.cancelBatch(machine.batch, world.admin);
  await world.runsAre('cancelled', [machine]);
  expect(world.site.simulators.proxmox.guest(vmid)).toMatchObject({ owner: 'alice', status: 'running' });
  expect(writesSinceForeign(vmid)).toEqual([]);
  expect(writesFor(world.journal(), machine, vmid).filter((line) => line.op === 'qemu.destroy')).toEqual([]);
  caused.end();
});

it('F04: a guest of another deployment in our range stops the cluster, the process stays up, and its id is left to it', async () => {
  const machine = await world.create('student-desktop');
  const vmid = await world.vmid(machine);
  const caused = causeFaults(world.site, 'F04-other-deployment', { vmid });
  await world.open(machine);
  const { stops } = world.assembly.parts;
  await world.until('the cluster is stopped', async () => (await stops.of('main')).length > 0);
  expect(await stops.of('main')).toMatchObject([
    {
      code: 'foreign-guest',
      message: expect.stringContaining(`${vmid} (mark of deployment 0190cccc-`) as string,
    },
  ]);
  await expect(world.create('student-desktop')).rejects.toMatchObject({ code: 'foreign-guest' });
  expect(writesSinceForeign(vmid)).toEqual([]);
  caused.end();
  world.site.simulators.proxmox.foreign.remove(vmid);
  // A new look finds the range free again, and the run goes on under another id.
  await expect.poll(() => world.create('student-desktop')).toBeDefined();
  await world.runsAre('done', [machine]);
  expect(await world.vmid(machine)).not.toBe(vmid);
});
