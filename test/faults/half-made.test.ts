import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BLUEPRINT, FaultWorld } from '../support/fault-world.js';
import { addBlueprint } from '../support/blueprint-variants.js';

/** As F34 has it. */
const HELD_MS = 50_000;
const IMPATIENT = 'impatient-desktop';
let at: FaultWorld;
beforeAll(async () => {
  at = await FaultWorld.start({
    // The clones of the template go to another node than its own.
    site: { cluster: { nodes: { exclude: ['pve1'] } } },
    prepare: (site) => addBlueprint(site, IMPATIENT, { workflow: ['deadline: 15m', 'deadline: 2500ms'] }),
  });
});
afterAll(async () => {
  // F41 and F42 are about addresses that two have.
  await at?.expectCleanJournal(['address-collision', 'mac-collision']);
  await at?.close();
});

const last = (op: string, vmid: number): string =>
  String(at.lines({ event: 'task-end', op, vmid }).at(-1)?.params?.['verdict']);

describe('half-made guests', () => {
  it('F34: a config without disks outside our pool waits for a person, who is told the command', async () => {
    await at.with('F34-pool-join-fails', async () => {
      const machine = await at.world.create(BLUEPRINT);
      const vmid = await at.world.vmid(machine);
      await at.world.open(machine);
      const { message, hint } = await at.parked(machine);
      expect(message).toContain(`guest ${vmid}`);
      const { node } = at.proxmox.guest(vmid)!;
      expect(hint).toContain(`as root on ${node}: qm destroy ${vmid} --purge`);
      expect(at.lines({ event: 'request', vmid, op: 'qemu.destroy' })).toEqual([]);
      at.proxmox.foreign.remove(vmid, 'root');
      // While somebody still holds the lock of the pools, a second clone comes to the same end.
      await at.world.until('the pools can be changed again', () =>
        at
          .lines({ event: 'hold', resource: 'file-user_cfg', effect: true })
          .some(({ holdMs = 0 }) => holdMs >= HELD_MS),
      );
      await at.retry(machine);
      await at.world.stepIs('done', machine, 'start');
      expect(await at.world.vmid(machine)).toBe(vmid);
      await at.expectOneGuest(machine);
    });
  });

  it('F36: a volume that is not seen yet is waited for, and nothing is made a second time', async () => {
    await at.with('F36-volume-hidden', async () => {
      const machine = await at.started();
      await at.expectOneGuest(machine);
      const starts = at.lines({ event: 'task-end', op: 'qemu.start' });
      expect(starts[0]?.params?.['verdict']).toMatch(/^volume '.*' does not exist$/);
      expect(starts.at(-1)?.params?.['verdict']).toBe('OK');
      expect(at.clonesSent(machine)).toHaveLength(1);
    });
  });

  it('F37: a config that is not seen yet is not a deleted guest', async () => {
    await at.with('F37-config-hidden', async () => {
      const machine = await at.started();
      await at.expectOneGuest(machine);
      expect(at.clonesSent(machine)).toHaveLength(1);
    });
  });

  it('F38: a clone without its cloud-init drive is removed and made again, and never started', async () => {
    await at.with('F38-cloud-init-lost', async () => {
      const machine = await at.started();
      const vmid = await at.expectOneGuest(machine);
      const done = at.lines({ event: 'task-end', vmid, effect: true }).map((line) => line.op);
      expect(done).toEqual(['qemu.clone', 'qemu.destroy', 'qemu.clone', 'qemu.resize', 'qemu.start']);
    });
  });

  it('F39: a guest whose agent is silent parks as address-unknown, one whose agent is late gets ready', async () => {
    await at.with('F39-agent-silent', async () => {
      const silent = await at.world.create(IMPATIENT);
      await at.upTo('start', silent);
      const late = await at.world.create(BLUEPRINT);
      await at.world.open(late);
      await at.world.open(silent);
      await at.world.runsAre('done', [late]);
      expect((await at.parked(silent)).code).toBe('address-unknown');
      await at.expectOneGuest(silent);
      await at.expectOneGuest(late);
    });
  });

  it('F40: the address is that of our own network card, whatever cards the agent names', async () => {
    await at.with('F40-other-network-cards', async () => {
      const machine = await at.ready();
      const vmid = await at.expectOneGuest(machine);
      const { address } = await at.world.one<{ address: string }>(
        'select address from machines where id = $1',
        [machine.id],
      );
      expect(address).toBe(at.proxmox.guest(vmid)?.address);
    });
  });

  it('F41: a guest that has the address of another one waits for a person', async () => {
    await at.with('F41-same-lease', async () => {
      const first = await at.ready();
      const second = await at.world.create(BLUEPRINT);
      await at.world.open(second);
      const { code, message } = await at.parked(second);
      expect([code, message]).toEqual(['address-unknown', expect.stringContaining(first.name)]);
      const connections = at.lines({ op: 'guacamole.connection.create', effect: true });
      expect(connections.map((line) => line.params?.['name'])).toEqual([first.name]);
    });
  });

  it('F41: an address that a guest had which is off now is no conflict', async () => {
    await at.with('F41-same-lease', async () => {
      const first = await at.ready();
      const second = await at.world.create(BLUEPRINT);
      await at.upTo('start', second);
      at.proxmox.foreign.setRunning(await at.world.vmid(first), false);
      await at.world.open(second);
      await at.world.runsAre('done', [second]);
      await at.expectOneGuest(second);
    });
  });

  it('F42: a MAC address that another guest has is replaced by our own before the first start', async () => {
    await at.with('F42-same-mac', async () => {
      const machine = await at.started();
      const vmid = await at.expectOneGuest(machine);
      expect(at.lines({ event: 'task-end', op: 'qemu.start', vmid })[0]?.params?.['mac']).toBe(machine.mac);
      const macs = at.proxmox
        .guests()
        .map(({ config }) => /([0-9A-F]{2}:){5}[0-9A-F]{2}/.exec(config['net0'] ?? '')?.[0]);
      expect(new Set(macs).size).toBe(macs.length);
    });
  });

  it('F49: volumes that an interrupted clone left are listed, and their id is not used again', async () => {
    await at.with('F49-leftover-volumes', async () => {
      const machine = await at.world.create(BLUEPRINT);
      const first = await at.world.vmid(machine);
      at.proxmox.hold('qemu.clone', 'task-start');
      await at.world.open(machine);
      await at.proxmox.reached('qemu.clone', 'task-start');
      await at.world.assembly.intake.cancelBatch(machine.batch, at.world.admin);
      at.proxmox.release('qemu.clone', 'task-start');
      await at.world.runsAre('cancelled', [machine]);
      const { note } = await at.world.one<{ note: string }>(
        `select note from reservations where kind = 'vmid' and value = $1`,
        [String(first)],
      );
      expect(note).toContain(`pvesm list <storage> --vmid ${first}`);
      expect(at.world.site.simulators.world.volumes.has(`ceph:vm-${first}-disk-0`)).toBe(true);
      expect(at.clonesSent(machine)).toEqual([first]);
      expect(at.guestsOf(machine)).toEqual([]);
    });
  });

  it('F50: a guest that was deleted by hand is not made again silently', async () => {
    await at.with('F50-deleted-by-hand', async () => {
      const machine = await at.world.create(BLUEPRINT);
      await at.world.open(machine);
      const vmid = await at.world.vmid(machine);
      const { message } = await at.parked(machine);
      expect(message).toContain(`guest ${vmid} is not there any more`);
      expect(at.clonesSent(machine)).toHaveLength(1);
      expect(last('qemu.clone', vmid)).toBe('OK');
      await at.giveUp(machine);
    });
  });

  it('F35: a template that went to another node parks the machine before anything is made', async () => {
    await at.with('F35-template-elsewhere', async () => {
      const machine = await at.world.create(BLUEPRINT);
      await at.world.open(machine);
      expect(await at.parked(machine)).toMatchObject({ code: 'template-changed' });
      expect(at.guestsOf(machine)).toEqual([]);
      at.proxmox.foreign.migrate(9000, 'pve1');
      await at.retry(machine);
      await at.upTo('start', machine);
      await at.expectOneGuest(machine);
    });
  });
});
