import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BLUEPRINT, FaultWorld } from '../support/fault-world.js';

let at: FaultWorld;
beforeAll(async () => {
  at = await FaultWorld.start();
});
afterAll(async () => {
  await at?.expectCleanJournal();
  await at?.close();
});

const noteOf = async (vmid: number): Promise<{ isResting: boolean; note: string | null }> =>
  at.world.one(
    `select rest_until > now() as "isResting", note from reservations where kind = 'vmid' and value = $1`,
    [String(vmid)],
  );

describe('identity', () => {
  it('F01: an id that somebody else took is burnt, and the next one is used', async () => {
    await at.with('F01-vmid-taken', async () => {
      const machine = await at.started();
      const sent = at.clonesSent(machine);
      const [first, second, third] = sent;
      expect(sent).toEqual([first, second, third]);
      expect(await at.expectOneGuest(machine)).toBe(third);
      for (const vmid of [first!, second!]) {
        at.expectUntouched(vmid);
        expect((await noteOf(vmid)).note).toContain('foreign guest');
      }
    });
  });

  it('F02: a foreign guest with our id, name and pool is neither adopted nor written to', async () => {
    await at.with('F02-taken-by-namesake', async () => {
      const machine = await at.started();
      const [taken, own] = at.clonesSent(machine);
      expect(await at.expectOneGuest(machine)).toBe(own);
      at.expectUntouched(taken!);
      expect(at.proxmox.guest(taken!)?.owner).toBe('alice');
    });
  });

  it('F05: an id whose lookups fail is never taken for free', async () => {
    const machine = await at.world.create(BLUEPRINT);
    const first = await at.world.vmid(machine);
    at.proxmox.foreign.create({ vmid: first, node: 'pve2', kind: 'qemu', owner: 'alice' });
    await at.world.assembly.hypervisors.get('main').inventory({ maxAgeMs: 0 });
    await at.with('F05-lookups-fail', async () => {
      await at.world.open(machine);
      await at.world.runsAre('done', [machine]);
      expect(at.proxmox.guest(first)?.owner).toBe('alice');
      expect(at.clonesSent(machine)).not.toContain(first);
      at.expectUntouched(first);
      await at.expectOneGuest(machine);
    });
  });

  it('F06: an id that was used rests, and what belonged to its guest goes with it', async () => {
    await at.with('F06-rights-stay', async () => {
      const machine = await at.started();
      const vmid = await at.world.vmid(machine);
      await at.giveUp(machine);
      const [destroy] = at.lines({ event: 'request', op: 'qemu.destroy', vmid });
      expect(destroy?.params).toMatchObject({ purge: '1' });
      expect(destroy?.params).not.toHaveProperty('destroy-unreferenced-disks');
      expect((await noteOf(vmid)).isResting).toBe(true);
      const next = await at.started();
      expect(await at.world.vmid(next)).not.toBe(vmid);
    });
  });

  it('F07: an id with a left-over volume is burnt, and the volume stays for a person to see', async () => {
    await at.with('F07-volume-left', async () => {
      const machine = await at.started();
      const [burnt, own] = at.clonesSent(machine);
      expect(await at.expectOneGuest(machine)).toBe(own);
      expect(at.proxmox.guest(burnt!)).toBeUndefined();
      const volid = `ceph:vm-${burnt}-cloudinit`;
      expect(at.world.site.simulators.world.volumes.has(volid)).toBe(true);
      expect(await noteOf(burnt!)).toEqual({
        isResting: true,
        note: expect.stringContaining(`vm-${burnt}-cloudinit`) as string,
      });
    });
  });

  it('F08: a guest of somebody else with the same name is let be', async () => {
    await at.with('F08-same-name', async () => {
      const machine = await at.started();
      expect(await at.expectOneGuest(machine)).not.toBe(555);
      await at.giveUp(machine);
      at.expectUntouched(555);
      expect(at.proxmox.guest(555)?.config['name']).toBe(machine.name);
    });
  });
});
