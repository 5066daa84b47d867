import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { grant } from '../../src/simulators/build-access.js';
import { newName } from '../support/step-world.js';
import type { JournalLine } from '../../src/simulators/journal.js';
import { BLUEPRINT, FaultWorld } from '../support/fault-world.js';

let at: FaultWorld;
beforeAll(async () => {
  at = await FaultWorld.start({ times: { waitLimitMs: 6_000 } });
});
afterAll(async () => {
  await at?.expectCleanJournal();
  await at?.close();
});

describe('the cluster as a whole', () => {
  it('F43: the first machine that finds the storage full stops the others before they send anything', async () => {
    await at.with('F43-storage-full', async () => {
      const [first, ...rest] = await at.world.createBatch(BLUEPRINT, [
        newName('s'),
        newName('s'),
        newName('s'),
      ]);
      await at.world.open(first!);
      expect((await at.parked(first!)).code).toBe('no-capacity');
      for (const machine of rest) await at.world.open(machine);
      await at.world.runsAre('parked', rest);
      expect(rest.flatMap((machine) => at.clonesSent(machine))).toEqual([]);
      expect(at.guestsOf(first!)).toEqual([]);
      at.proxmox.conditions.emptyStorage('ceph');
      for (const machine of [first!, ...rest]) {
        await at.retry(machine);
        await at.upTo('start', machine);
        await at.expectOneGuest(machine);
      }
    });
  });

  it('F44: without quorum nothing is tried away, and the work resumes by itself', async () => {
    await at.with('F44-quorum-lost', async () => {
      const machine = await at.started();
      const vmid = await at.expectOneGuest(machine);
      const sent = at.lines({ event: 'request', op: 'qemu.clone', vmid });
      expect(sent[0]).toMatchObject({ status: 500, params: { error: 'cluster not ready - no quorum?' } });
      expect(sent.filter((line) => line.status === 200)).toHaveLength(1);
      expect(at.lines({ op: 'condition.regain-quorum' })).toHaveLength(1);
    });
  });

  it('F44: the whole deployment asks a cluster without quorum at most twice a second, and goes on by itself', async () => {
    const { world, proxmox } = at;
    const since = world.now();
    const simulatedMs = (line: { ns: string }): number =>
      Number(BigInt(line.ns) - since) / 1e6 / world.site.timeScale;
    const machines = await world.createBatch(
      BLUEPRINT,
      Array.from({ length: 24 }, () => newName('s')),
    );
    proxmox.hold('qemu.clone', 'before');
    for (const machine of machines) await world.open(machine);
    await proxmox.reached('qemu.clone', 'before');
    proxmox.conditions.loseQuorum();
    proxmox.release('qemu.clone', 'before');
    const asked = (): JournalLine[] => world.journal(since).filter(({ event }) => event === 'request');
    const OUT = `select exists (select from cluster_stops where reason = 'outage') as is_out`;
    const isOut = async (): Promise<boolean> => (await world.one<{ is_out: boolean }>(OUT)).is_out;
    await world.until('the cluster is out', isOut);
    const HELD = `select exists (select from steps where worker_id is not null) as is_busy`;
    await world.until(
      'nothing is in hand',
      async () => !(await world.one<{ is_busy: boolean }>(HELD)).is_busy,
    );
    const before = asked().length;
    const probes = (): JournalLine[] =>
      asked()
        .slice(before)
        .filter(({ op }) => op === 'cluster.status');
    await world.until('it was asked eight times', () => probes().length >= 8);
    proxmox.conditions.regainQuorum();
    const meanwhile = asked().slice(before);
    const seconds = (simulatedMs(meanwhile.at(-1)!) - simulatedMs(meanwhile[0]!)) / 1_000;
    expect(meanwhile.length / seconds).toBeLessThanOrEqual(2);
    await world.until('the cluster is back', async () => !(await isOut()));
    for (const machine of machines) await world.stepIs('done', machine, 'start');
    for (const machine of machines) await at.expectOneGuest(machine);
  });

  it('F44: a clone that failed because the quorum went is told to people, who look for what it could not free', async () => {
    await at.with('F44-quorum-lost-midway', async () => {
      const machine = await at.started();
      const [first, own] = at.clonesSent(machine);
      expect(await at.expectOneGuest(machine)).toBe(own);
      const { note } = await at.world.one<{ note: string | null }>(
        `select note from reservations where kind = 'vmid' and value = $1`,
        [String(first)],
      );
      expect(note).toContain(`pvesm list <storage> --vmid ${first}`);
    });
  });

  it('F45: a missing right stops the batch at its first machine', async () => {
    await at.with('F45-right-missing', async () => {
      const [first, ...rest] = await at.world.createBatch(BLUEPRINT, [
        newName('s'),
        newName('s'),
        newName('s'),
      ]);
      await at.world.open(first!);
      expect(await at.parked(first!)).toMatchObject({
        code: 'permission-missing',
        hint: expect.stringContaining('SDN.Use') as string,
      });
      for (const machine of rest) await at.world.open(machine);
      await at.world.runsAre('parked', rest);
      expect(rest.flatMap((machine) => at.clonesSent(machine))).toEqual([]);
      const { world } = at.world.site.simulators;
      grant(world, world.tokenId, '/sdn/zones/localnetwork', ['SDN.Use']);
      await at.retry(first!);
      await at.world.stepIs('done', first!, 'start');
      await at.expectOneGuest(first!);
    });
  });

  it('F46: the job of somebody else on our guest is waited for, and nothing is written meanwhile', async () => {
    await at.with('F46-backup-runs', async () => {
      const machine = await at.started();
      const vmid = await at.expectOneGuest(machine);
      const [, unlocked] = at.lines({ op: 'foreign.edit', vmid });
      const [write] = at.lines({ event: 'request', op: 'qemu.config.put', vmid });
      expect(BigInt(write!.ns)).toBeGreaterThan(BigInt(unlocked!.ns));
      expect(at.clonesSent(machine)).toHaveLength(1);
    });
  });

  it('F46: and asks a person when it lasts longer than the limit', async () => {
    await at.with('F46-backup-runs', async () => {
      const machine = await at.world.create(BLUEPRINT);
      const vmid = await at.world.vmid(machine);
      at.proxmox.hold('qemu.clone', 'after');
      await at.world.open(machine);
      await at.proxmox.reached('qemu.clone', 'after');
      at.proxmox.release('qemu.clone', 'after');
      await at.world.until('a lock', () => at.proxmox.guest(vmid)?.config['lock'] === 'backup');
      await at.world.until('no lock', () => at.proxmox.guest(vmid)?.config['lock'] === undefined);
      at.proxmox.foreign.edit(vmid, { lock: 'backup' }, 'job');
      const { code, hint } = await at.parked(machine);
      expect([code, hint]).toEqual(['lock-timeout', expect.stringContaining(`qm unlock ${vmid}`)]);
      at.proxmox.foreign.edit(vmid, { lock: null }, 'job');
      await at.giveUp(machine);
    });
  });

  it('F47: a guest that moved is found where it is now', async () => {
    await at.with('F47-guest-moved', async () => {
      const machine = await at.started();
      const vmid = await at.expectOneGuest(machine);
      expect(at.proxmox.guest(vmid)?.node).toBe('pve3');
      expect(at.lines({ event: 'task-end', op: 'qemu.start', vmid, effect: true })[0]?.node).toBe('pve3');
      await at.giveUp(machine);
      expect(at.proxmox.guest(vmid)).toBeUndefined();
    });
  });

  it('F48: a protected guest is not removed and keeps its protection; afterwards it is', async () => {
    await at.with('F48-protected', async () => {
      const machine = await at.started();
      const vmid = await at.expectOneGuest(machine);
      await at.world.assembly.intake.cancelBatch(machine.batch, at.world.admin);
      await at.world.stepIs('undo-parked', machine, 'clone');
      expect((await at.errorOf(machine)).hint).toContain(`qm set ${vmid} --protection 0`);
      expect(at.lines({ event: 'request', op: 'qemu.destroy', vmid })).toEqual([]);
      expect(at.proxmox.guest(vmid)).toMatchObject({ status: 'running', config: { protection: '1' } });
      at.proxmox.foreign.edit(vmid, { protection: null });
      await at.retry(machine);
      await at.world.runsAre('cancelled', [machine]);
      expect(at.proxmox.guest(vmid)).toBeUndefined();
    });
  });
});
