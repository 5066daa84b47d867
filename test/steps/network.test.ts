import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { WorldGuest } from '../../src/simulators/world.js';
import { WireClient } from '../simulators/proxmox-client.js';
import { addBlueprint } from '../support/blueprint-variants.js';
import { StepWorld, type TestMachine } from '../support/step-world.js';
import { kindsOf, writesFor } from '../support/things-outside.js';

const BLUEPRINT = 'impatient-desktop';
let world: StepWorld;

beforeAll(async () => {
  world = await StepWorld.start({
    prepare: (site) => addBlueprint(site, BLUEPRINT, { workflow: ['deadline: 15m', 'deadline: 500ms'] }),
  });
});
afterAll(async () => world?.close());

const errorOf = async (machine: TestMachine): Promise<{ code: string; message: string; hint?: string }> =>
  (
    await world.one<{ error: { code: string; message: string } }>(
      'select error from machines where id = $1',
      [machine.id],
    )
  ).error;

const filters = (): ReadonlyMap<string, { description: string }> => world.site.simulators.world.dhcp.allow;

describe('allow-mac', () => {
  it('refuses a foreign entry of the same address and leaves it, also when the machine is given up', async () => {
    const machine = await world.create(BLUEPRINT);
    const { allow } = world.site.simulators.world.dhcp;
    allow.set(machine.mac, { description: 'printer of room 204' });
    await world.open(machine, ['reserve', 'allow-mac']);
    await world.stepIs('parked', machine, 'allow-mac');
    expect(await errorOf(machine)).toMatchObject({
      code: 'remote-refused',
      message: expect.stringContaining('printer of room 204') as string,
      hint: expect.stringContaining('Remove-DhcpServerv4Filter') as string,
    });
    await world.assembly.intake.cancelBatch(machine.batch, world.admin);
    await world.runsAre('cancelled', [machine]);
    expect(filters().get(machine.mac)).toEqual({ description: 'printer of room 204' });
    expect(kindsOf(writesFor(world.journal(), machine, await world.vmid(machine)))).toEqual([]);
    allow.delete(machine.mac);
  });

  it('asks a person when its own entry was rewritten by somebody, and lets the entry be', async () => {
    const machine = await world.create(BLUEPRINT);
    await world.open(machine, ['reserve', 'allow-mac']);
    await world.stepIs('done', machine, 'allow-mac');
    const { allow } = world.site.simulators.world.dhcp;
    allow.set(machine.mac, { description: 'taken over by Alice' });
    await world.assembly.intake.cancelBatch(machine.batch, world.admin);
    await world.stepIs('undo-parked', machine, 'allow-mac');
    expect(await errorOf(machine)).toMatchObject({ code: 'foreign-guest' });
    expect(filters().get(machine.mac)).toEqual({ description: 'taken over by Alice' });
    allow.delete(machine.mac);
    await world.assembly.intake.retryRun(machine.runId, world.admin);
    await world.runsAre('cancelled', [machine]);
  });
});

describe('wait-address', () => {
  it('parks with address-unknown when the guest reports none, and run retry goes on after its repair', async () => {
    const machine = await world.create(BLUEPRINT);
    await world.open(machine, ['reserve', 'allow-mac', 'clone', 'configure', 'resize']);
    await world.kept(machine, 'start');
    const { allow } = world.site.simulators.world.dhcp;
    const filter = allow.get(machine.mac)!;
    allow.delete(machine.mac);
    await world.open(machine);
    await world.runsAre('parked', [machine]);
    expect(await errorOf(machine)).toMatchObject({
      code: 'address-unknown',
      hint: expect.stringContaining('guest agent') as string,
    });
    const { guacamole, proxmox, context } = world.site.simulators;
    expect([...guacamole.connections().values()].some(({ name }) => name === machine.name)).toBe(false);

    allow.set(machine.mac, filter);
    const vmid = await world.vmid(machine);
    const guest = (): WorldGuest => proxmox.guest(vmid)!;
    await restart(vmid);
    await world.until('its agent is up', () => guest().agentUpAtMs <= context.clock.elapsedMs());
    await world.assembly.intake.retryRun(machine.runId, world.admin);
    await world.runsAre('done', [machine]);
    const { address } = await world.one<{ address: string }>('select address from machines where id = $1', [
      machine.id,
    ]);
    expect(address).toBe(guest().address);
    await world.remove([machine]);
    expect(filters().has(machine.mac)).toBe(false);
  });

  /** An administrator switches it off and on again. */
  async function restart(vmid: number): Promise<void> {
    const { proxmox } = world.site.simulators;
    const admin = new WireClient(proxmox, proxmox.rootToken);
    const path = `/nodes/${proxmox.guest(vmid)!.node}/qemu/${vmid}/status`;
    for (const action of ['stop', 'start'])
      expect((await admin.task(await admin.post(`${path}/${action}`))).exit).toBe('OK');
    admin.close();
  }
});
