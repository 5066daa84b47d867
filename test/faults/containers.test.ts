import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { volumeKey } from '../../src/simulators/world.js';
import { FaultWorld } from '../support/fault-world.js';
import type { TestMachine } from '../support/step-world.js';

const CLONED = 'debian-desktop-lxc';
const UNPACKED = 'debian-12-lxc';
let at: FaultWorld;

beforeAll(async () => {
  at = await FaultWorld.start();
});
afterAll(async () => {
  await at?.expectCleanJournal();
  await at?.close();
});

/** A class of which every machine goes on by itself. */
async function aClass(blueprint: string, logins: readonly string[]): Promise<TestMachine[]> {
  const machines = await at.world.createBatch(blueprint, logins);
  for (const machine of machines) await at.world.open(machine);
  return machines;
}

const configOf = async (machine: TestMachine): Promise<Record<string, string>> =>
  at.proxmox.guest(await at.world.vmid(machine))!.config;

describe('containers', () => {
  it('are made with what their blueprint says, in the file as its people know it', async () => {
    const [machine] = await aClass(CLONED, ['fastack']);
    await at.world.runsAre('done', [machine!]);
    const { description, rootfs, ...config } = await configOf(machine!);
    expect(description).toMatch(/^Anne Martin \(fastack\), .*\n\[hatchery v1 /);
    expect(rootfs).toMatch(/^[a-z-]+:.*,size=50G$/);
    expect(config).toEqual({
      arch: 'amd64',
      cores: '4',
      features: 'nesting=1',
      hostname: 'vm-fastack',
      memory: '12288',
      net0: `name=eth0,bridge=vmbr0,hwaddr=${machine!.mac.toUpperCase()},ip=dhcp,type=veth`,
      ostype: 'debian',
      swap: '512',
      unprivileged: '1',
    });
  });

  it('F12: use the copies of their template in turn, and no clone is sent to a copy that makes one', async () => {
    const machines = await aClass(
      CLONED,
      Array.from({ length: 9 }, (_, nth) => `turn${nth}`),
    );
    await at.world.runsAre('done', machines);
    const names = new Set(machines.map(({ name }) => name));
    const sent = at
      .lines({ event: 'request', op: 'lxc.clone' })
      .filter((line) => names.has(String(line.params?.['hostname'])));
    expect(sent.map(({ status }) => status)).toEqual(machines.map(() => 200));
    const rows = await at.world.query<{ copy: string; count: number }>(
      `select inputs #>> '{machine,template,vmid}' as copy, count(*)::int as count from runs where id = any ($1::uuid[]) group by 1`,
      [machines.map(({ runId }) => runId)],
    );
    expect(rows.map(({ count }) => count)).toEqual([3, 3, 3]);
  });

  it('F12: use the copies in turn also when each is asked for by itself', async () => {
    const machines = [];
    for (let nth = 0; nth < 3; nth += 1) machines.push(await at.world.create(CLONED));
    const rows = await at.world.query<{ copy: string }>(
      `select distinct inputs #>> '{machine,template,vmid}' as copy from runs where id = any ($1::uuid[])`,
      [machines.map(({ runId }) => runId)],
    );
    for (const machine of machines) await at.world.open(machine);
    await at.world.runsAre('done', machines);
    expect(rows).toHaveLength(3);
  });

  it('F13: park at a copy with a lock that a crash left on it, with the command that unlocks it', async () => {
    const [machine] = await at.world.createBatch(CLONED, ['crashed']);
    const { copy } = await at.world.one<{ copy: number }>(
      `select (inputs #>> '{machine,template,vmid}')::int as copy from runs where id = $1`,
      [machine!.runId],
    );
    at.proxmox.foreign.edit(copy, { lock: 'disk' });
    await at.world.open(machine!);
    const error = await at.parked(machine!);
    expect(error.message).toMatch(/is locked \(disk\), and no task on pve\d holds the lock/);
    expect(JSON.stringify(error)).toContain(`pct unlock ${copy}`);
    at.proxmox.foreign.edit(copy, { lock: null });
    await at.retry(machine!);
    await at.world.runsAre('done', [machine!]);
  });

  it('are unpacked only where their archive is, and are refused as a class when no node has it', async () => {
    const { files, nodes } = at.world.site.simulators.world;
    const [own] = [...files.values()].filter(({ content }) => content === 'vztmpl');
    const file = own!;
    const remove = (names: readonly string[]): void => {
      for (const name of names) files.delete(volumeKey(name, file.volid));
    };
    remove(['pve1', 'pve3']);
    const machines = await aClass(UNPACKED, ['arca', 'arcb', 'arcc']);
    await at.world.runsAre('done', machines);
    for (const machine of machines)
      expect(at.proxmox.guest(await at.world.vmid(machine))).toMatchObject({ node: 'pve2', kind: 'lxc' });
    remove(['pve2']);
    await at.world.until('the list of archives is read anew', async () => {
      const call = { signal: AbortSignal.timeout(10_000), beforeSend: () => undefined };
      return at.world.assembly.hypervisors
        .get('main')
        .archives('debian-12-standard', call)
        .then(
          () => false,
          () => true,
        );
    });
    await expect(at.world.createBatch(UNPACKED, ['arcd'])).rejects.toMatchObject({
      code: 'not-found',
      hint: expect.stringContaining('pveam download local') as string,
    });
    for (const { name } of nodes) files.set(volumeKey(name, file.volid), { ...file, node: name });
  });

  it('with another network card than the one that we gave are not removed', async () => {
    const [machine] = await aClass(UNPACKED, ['macless']);
    await at.world.runsAre('done', [machine!]);
    const vmid = await at.world.vmid(machine!);
    const { net0 } = await configOf(machine!);
    at.proxmox.foreign.edit(vmid, { net0: net0!.replace(machine!.mac.toUpperCase(), '02:00:00:00:00:99') });
    await at.world.assembly.intake.deleteBatch(machine!.batch, at.world.admin);
    const error = await at.parked(machine!);
    expect(error).toMatchObject({ code: 'foreign-guest' });
    expect(error.message).toContain('is another incarnation (02:00:00:00:00:99 instead of');
    expect(at.proxmox.guest(vmid)?.status).toBe('running');
    at.proxmox.foreign.edit(vmid, { net0: net0! });
    await at.retry(machine!);
    await at.world.runsAre('cancelled', [machine!]);
    expect(at.proxmox.guest(vmid)).toBeUndefined();
  });
});
