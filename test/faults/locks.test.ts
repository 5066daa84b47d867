import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FaultWorld } from '../support/fault-world.js';

let at: FaultWorld;
beforeAll(async () => {
  at = await FaultWorld.start();
});
afterAll(async () => {
  await at?.expectCleanJournal();
  await at?.close();
});

const verdictsOf = (op: string): string[] =>
  at.lines({ event: 'task-end', op }).map((line) => String(line.params?.['verdict']));

describe('locks', () => {
  it('F11: a busy template is asked again, under the same id', async () => {
    await at.with('F11-template-lock-busy', async () => {
      const machine = await at.started();
      const vmid = await at.expectOneGuest(machine);
      expect(new Set(at.clonesSent(machine))).toEqual(new Set([vmid]));
      const verdicts = verdictsOf('qemu.clone');
      expect(verdicts[0]).toBe("can't lock file '/var/lock/qemu-server/lock-9000.conf' - got timeout");
      expect(verdicts.at(-1)).toBe('OK');
    });
  });

  it('F14: nothing is written to a clone before its lock is gone', async () => {
    await at.with('F14-lock-lingers', async () => {
      const machine = await at.started();
      const vmid = await at.expectOneGuest(machine);
      const [locked, unlocked] = at.lines({ op: 'foreign.edit', vmid });
      expect([locked?.params, unlocked?.params]).toEqual([{ lock: 'clone' }, { lock: null }]);
      const [write] = at.lines({ event: 'request', op: 'qemu.config.put', vmid });
      expect(BigInt(write!.ns)).toBeGreaterThan(BigInt(unlocked!.ns));
      expect(at.clonesSent(machine)).toHaveLength(1);
    });
  });

  it('F15: a config write that got no lock is repeated with a digest', async () => {
    await at.with('F15-config-lock-busy', async () => {
      const machine = await at.started();
      const vmid = await at.expectOneGuest(machine);
      const writes = at.lines({ event: 'request', op: 'qemu.config.put', vmid });
      expect(writes[0]).toMatchObject({ status: 500, effect: false });
      expect(writes.filter((line) => line.effect)).toEqual([writes.at(-1)]);
      for (const write of writes) expect(write.params).toHaveProperty('digest');
    });
  });

  it('F16: a clone that got no storage lock leaves nothing and is repeated under the same id', async () => {
    await at.with('F16-storage-lock-busy', async () => {
      const machine = await at.started();
      const vmid = await at.expectOneGuest(machine);
      expect(new Set(at.clonesSent(machine))).toEqual(new Set([vmid]));
      expect(verdictsOf('qemu.clone')[0]).toContain('got lock request timeout');
      expect(verdictsOf('qemu.clone').at(-1)).toBe('OK');
    });
  });

  it('F17: after work that was cut the id is burnt, for a volume of it may exist', async () => {
    await at.with('F17-storage-work-cut', async () => {
      const machine = await at.started();
      const [burnt, own] = at.clonesSent(machine);
      expect(await at.expectOneGuest(machine)).toBe(own);
      expect(own).not.toBe(burnt);
      const left = [...at.world.site.simulators.world.volumes.values()].filter(({ vmid }) => vmid === burnt);
      expect(left.map(({ volid }) => volid)).toEqual([`ceph:vm-${burnt}-disk-0`]);
      const { note } = await at.world.one<{ note: string }>(
        `select note from reservations where kind = 'vmid' and value = $1`,
        [String(burnt)],
      );
      expect(note).toContain('timed out');
    });
  });
});
