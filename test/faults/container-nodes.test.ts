import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { textOf } from '../../src/simulators/proxmox/lxc-config-file.js';
import type { WorldGuest } from '../../src/simulators/world.js';
import { FaultWorld } from '../support/fault-world.js';
import type { SimulatedSite } from '../support/simulated-site.js';
import type { TestMachine } from '../support/step-world.js';

/* What is written on nodes for containers: rows E07, E08, E10 and S36. Judged by the files, and by the journal of the SSH servers. */

const IDENTITIES = { from: 600_000_000, count: 999_999_999 };

async function writeBlueprints({ configDir }: SimulatedSite): Promise<void> {
  const folder = join(configDir, 'blueprints');
  await mkdir(folder, { recursive: true });
  const blueprint = (name: string, container: object): Promise<void> =>
    writeFile(
      join(folder, `${name}.yaml`),
      JSON.stringify({
        name,
        version: 1,
        title: { en: name, fr: name },
        kind: 'lxc',
        source: { archive: 'debian-12-standard', storage: 'ceph' },
        sizes: { default: 'one', one: { cores: 4, memoryMiB: 12_288, diskGiB: 50 } },
        nameFrom: 'vm-{login}',
        network: { bridge: 'vmbr0', dhcp: 'dhcp' },
        container,
        workflow: 'student-lxc-debian',
        clusters: ['main'],
      }),
    );
  await blueprint('cri', { identities: [IDENTITIES], firstBoot: { packages: ['vim'], signIn: {} } });
  await blueprint('at-home', { identities: [IDENTITIES], home: { under: 'students' } });
}

describe('containers on their nodes', () => {
  let at: FaultWorld;
  beforeAll(async () => {
    at = await FaultWorld.start({
      prepare: writeBlueprints,
      site: {
        world: { links: { '/mnt/pve/home/eve': '/etc/pve' } },
      },
    });
  });
  afterAll(async () => at.close());

  const nodeFiles = () => at.world.site.simulators.world.nodeFiles;
  const guest = async (machine: TestMachine): Promise<WorldGuest> =>
    at.proxmox.guest(await at.world.vmid(machine))!;
  const rawLines = async (machine: TestMachine): Promise<string[]> =>
    textOf(await guest(machine)).match(/^lxc\..*/gm) ?? [];
  const filesOf = ({ id }: TestMachine): string[] =>
    [...nodeFiles().keys()].filter((key) => key.includes(id));
  const report = (machine: TestMachine, text: string): void => {
    const key = filesOf(machine).find((one) => one.includes('/reports/'))!;
    nodeFiles().set(key, { base64: Buffer.from(text).toString('base64'), mode: 'guest' });
  };
  const IDMAP = [
    'lxc.idmap: u 0 100000 65536',
    'lxc.idmap: g 0 100000 65536',
    'lxc.idmap: u 600000000 600000000 999999999',
    'lxc.idmap: g 600000000 600000000 999999999',
  ];

  async function goneWithoutTrace(machine: TestMachine): Promise<void> {
    await at.giveUp(machine);
    expect(filesOf(machine)).toEqual([]);
    expect(at.proxmox.guest(await at.world.vmid(machine))).toBeUndefined();
  }

  it('get the config of the FastStack talk but for names and ip=dhcp, and lose hooks and files when their first boot is over (FS48)', async () => {
    const machine = await at.world.create('cri', 'rapamato');
    await at.world.open(machine, ['reserve', 'create', 'config']);
    await at.world.stepIs('done', machine, 'config');
    expect(await rawLines(machine)).toEqual([
      ...IDMAP,
      expect.stringMatching(/first-boot var\/lib\/hatchery\/first-boot\/hook none bind,ro,create=file 0 0$/),
      expect.stringMatching(
        /first-boot var\/lib\/hatchery\/first-boot\/arguments none bind,ro,create=file 0 0$/,
      ),
      expect.stringMatching(/first-boot var\/lib\/hatchery\/first-boot\/report none bind,create=file 0 0$/),
      'lxc.hook.start: /var/lib/hatchery/first-boot/hook',
    ]);
    expect(filesOf(machine)).toHaveLength(3);
    await at.world.open(machine);
    await at.world.runsAre('done', [machine]);
    expect(filesOf(machine)).toEqual([]);
    const text = textOf(await guest(machine));
    expect(text.split('\n').filter((line) => !line.startsWith('#'))).toEqual([
      'arch: amd64',
      'cores: 4',
      'features: nesting=1',
      'hostname: vm-rapamato',
      'memory: 12288',
      expect.stringMatching(/^net0: name=eth0,bridge=vmbr0,hwaddr=[0-9A-F:]{17},ip=dhcp,type=veth$/),
      'ostype: debian',
      expect.stringMatching(/^rootfs: ceph:vm-[0-9]+-disk-[0-9],size=50G$/),
      'swap: 512',
      'unprivileged: 1',
      ...IDMAP,
      '',
    ]);
    await at.remove(machine);
    await at.expectCleanJournal();
  });

  it('E07: whatever happens to a write, all lines of it are there once or none', async () => {
    await at.with('E07-config-write', async () => {
      const machine = await at.world.create('at-home');
      await at.world.open(machine);
      await at.world.runsAre('done', [machine]);
      expect(await rawLines(machine)).toEqual([
        ...IDMAP,
        `lxc.mount.entry: /mnt/pve/home/${machine.login} home/${machine.login} none bind,create=dir 0 0`,
      ]);
      expect((await guest(machine)).config['onboot']).toBe('1');
      expect(at.lines({ op: 'ssh.config.raw-lines', event: 'request', effect: true })).toHaveLength(1);
      await goneWithoutTrace(machine);
    });
  });

  it('E08: a hook that is missing when the container starts parks it, and a retry goes on', async () => {
    const machine = await at.world.create('cri');
    await at.world.open(machine, ['reserve', 'create', 'config']);
    await at.world.stepIs('done', machine, 'config');
    const hook = filesOf(machine).find((key) => key.includes('/hooks/'))!;
    const kept = nodeFiles().get(hook)!;
    nodeFiles().delete(hook);
    await at.world.open(machine);
    expect(await at.parked(machine)).toMatchObject({ code: 'hook-failed' });
    nodeFiles().set(hook, kept);
    await at.retry(machine);
    await at.world.runsAre('done', [machine]);
    await goneWithoutTrace(machine);
  });

  it('E08: what the first boot says of its failure comes back to the run, which goes on when it is mended', async () => {
    const machine = await at.world.create('cri');
    await at.world.open(machine, ['reserve', 'allow-mac', 'create', 'config', 'start']);
    await at.world.stepIs('done', machine, 'start');
    await at.world.until('the first boot is over', () =>
      filesOf(machine).some((key) => {
        const file = nodeFiles().get(key)!;
        return key.includes('/reports/') && Buffer.from(file.base64, 'base64').toString().endsWith('done\n');
      }),
    );
    report(machine, 'progress 10 updates\nfailed updates (exit code 100): E: no \u001b[31mmirror\n');
    await at.world.open(machine);
    const error = await at.parked(machine);
    expect(error).toMatchObject({ code: 'hook-failed' });
    expect(error.message).toContain('updates (exit code 100): E: no mirror');
    report(machine, 'failed updates\nprogress 10 updates\ndone\n');
    await at.retry(machine);
    await at.world.runsAre('done', [machine]);
    await goneWithoutTrace(machine);
  });

  it('refuses lines that a template brought and nobody allowed (S35)', async () => {
    const machine = await at.world.create('cri');
    await at.world.open(machine, ['reserve', 'create']);
    await at.world.stepIs('done', machine, 'create');
    const made = await guest(machine);
    made.rawLines = [...made.rawLines, ['lxc.hook.pre-start', '/root/of-the-template']];
    await at.world.open(machine);
    const error = await at.parked(machine);
    expect(error.message).toContain('lxc.hook.pre-start: /root/of-the-template');
    expect(at.lines({ op: 'ssh.config.raw-lines', vmid: await at.world.vmid(machine) })).toEqual([]);
    await goneWithoutTrace(machine);
  });

  it('shows nobody what a link in a home leads to (S36)', async () => {
    const machine = await at.world.create('at-home', 'eve');
    await at.world.open(machine);
    const error = await at.parked(machine);
    expect(error.message).toContain('it leads to /etc/pve');
    expect(await rawLines(machine)).toEqual([]);
    await goneWithoutTrace(machine);
  });

  it('E08: identities that the node may not map are named with the lines that it lacks', async () => {
    await at.with('E08-subids-missing', async () => {
      const machine = await at.world.create('cri');
      await at.world.open(machine);
      const error = await at.parked(machine);
      expect(error.message).toContain('root:600000000:999999999 in /etc/subuid');
      expect(await rawLines(machine)).toEqual([]);
      await goneWithoutTrace(machine);
    });
  });

  it('E10: a node with another host key is told nothing', async () => {
    await at.with('E10-host-key-changed', async () => {
      const machine = await at.world.create('cri');
      await at.world.open(machine);
      expect(await at.parked(machine)).toMatchObject({ code: 'host-key-changed' });
      const { node } = await guest(machine);
      const told = at.lines({ event: 'request', node }).filter(({ op }) => op?.startsWith('ssh.'));
      expect(told.filter(({ effect }) => effect)).toEqual([]);
      expect(await rawLines(machine)).toEqual([]);
    });
  });
});
