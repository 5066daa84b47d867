import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { textOf } from '../../src/simulators/proxmox/lxc-config-file.js';
import { volumeKey, type WorldGuest } from '../../src/simulators/world.js';
import { PACKAGE_ROOT } from '../../src/app/config/package-root.js';
import { FaultWorld } from '../support/fault-world.js';
import type { SimulatedSite } from '../support/simulated-site.js';
import type { TestMachine } from '../support/step-world.js';

/* What is written on nodes for containers: rows E07, E08, E10, S35 and S36. Judged by the files, and by the journal of the SSH servers. */

const IDENTITIES = { from: 600_000_000, count: 999_999_999 };

const TOOLS = '#!/bin/sh\necho progress 50 tools >> "${0%/*}/report"\n';
const SHARE = '#!/bin/sh\n# $1: the file of its arguments\nexit 0\n';
const JOIN_PASSWORD = 'join-me-42';

async function writeSiteFiles({ configDir }: SimulatedSite): Promise<void> {
  const write = async (name: string, text: string): Promise<void> => {
    const file = join(configDir, name);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, text);
  };
  const hook = async (name: string, script: string, more: object): Promise<void> => {
    const sha256 = createHash('sha256').update(script).digest('hex');
    await write(`hooks/${name}.sh`, script);
    await write(
      `hooks/${name}.yaml`,
      JSON.stringify({ name, script: { file: `${name}.sh` }, sha256, ...more }),
    );
  };
  const blueprint = (name: string, container: object, workflow = 'student-lxc-debian'): Promise<void> =>
    write(
      `blueprints/${name}.yaml`,
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
        workflow,
        clusters: ['main'],
      }),
    );
  await blueprint('cri', { identities: [IDENTITIES], firstBoot: { packages: ['vim'], signIn: {} } });
  await blueprint('at-home', { identities: [IDENTITIES], home: { under: 'students' } });
  const workflow = await readFile(join(PACKAGE_ROOT, 'workflows', 'student-lxc-debian.yaml'), 'utf8');
  const impatient = workflow
    .replace('id: student-lxc-debian', 'id: impatient')
    .replace('uses: wait-first-boot,', 'uses: wait-first-boot, deadline: 1s,');
  await write('workflows/impatient.yaml', impatient);
  await blueprint('impatient', { firstBoot: {} }, 'impatient');
  await hook('tools', TOOLS, { phase: 'start', arguments: ['lab'], reports: true });
  await hook('share', SHARE, { phase: 'mount', arguments: ['server'] });
  await write('services/cri-password', `${JOIN_PASSWORD}\n`);
  await write(
    'services/cri.yaml',
    JSON.stringify({
      name: 'cri',
      kind: 'active-directory',
      realm: 'local.isima.fr',
      username: 'svc-join',
      password: { file: 'cri-password' },
    }),
  );
  await blueprint('joined', {
    firstBoot: { packages: ['sssd'], domain: 'cri', signIn: { admins: ['it-staff'] } },
    hooks: [
      { hook: 'tools', arguments: { lab: 'b12' } },
      { hook: 'share', arguments: { server: 'nas1' } },
    ],
  });
}

describe('containers on their nodes', () => {
  let at: FaultWorld;
  beforeAll(async () => {
    at = await FaultWorld.start({
      prepare: writeSiteFiles,
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

  it('E08: a first boot that hangs is waited for until its time is over, and a retry goes on when it is mended', async () => {
    const machine = await at.world.create('impatient');
    await at.world.open(machine, ['reserve', 'create']);
    await at.world.stepIs('done', machine, 'create');
    const vmid = await at.world.vmid(machine);
    at.proxmox.conditions.setFirstBoot(vmid, 'hangs', '');
    await at.world.open(machine);
    expect(await at.parked(machine)).toMatchObject({
      code: 'hook-failed',
      message: expect.stringContaining('did not end in time') as string,
      hint: expect.stringContaining('pct enter') as string,
    });
    expect(at.proxmox.guest(vmid)?.status).toBe('running');
    report(machine, 'progress 60 install packages\ndone\n');
    await at.retry(machine);
    await at.world.runsAre('done', [machine]);
    await goneWithoutTrace(machine);
  });

  it('run the hooks of an administrator before our own, and leave nothing of them (S35)', async () => {
    const machine = await at.world.create('joined');
    await at.world.open(machine, ['reserve', 'create']);
    await at.world.stepIs('done', machine, 'create');
    const since = at.world.now();
    await at.world.open(machine, ['config']);
    await at.world.stepIs('done', machine, 'config');
    // All that is read of it is one conversation, all that is written another.
    const conversations = at.world
      .journal(since)
      .filter(({ event, op }) => event === 'request' && op?.startsWith('ssh.') === true)
      .filter(({ params }) => params?.['sameConversation'] !== true);
    expect(conversations.map(({ op }) => op)).toEqual(['ssh.config.read', 'ssh.file.put']);
    const pathOf = (place: string, name: string) => `/var/lib/hatchery/${place}/${machine.id}.${name}`;
    const shown = (name: string) => [
      `lxc.mount.entry: ${pathOf('hooks', name)} var/lib/hatchery/${name}/hook none bind,ro,create=file 0 0`,
      `lxc.mount.entry: ${pathOf('arguments', name)} var/lib/hatchery/${name}/arguments none bind,ro,create=file 0 0`,
      `lxc.mount.entry: ${pathOf('reports', name)} var/lib/hatchery/${name}/report none bind,create=file 0 0`,
    ];
    expect(await rawLines(machine)).toEqual([
      ...shown('tools'),
      ...shown('first-boot'),
      'lxc.hook.start: /var/lib/hatchery/tools/hook',
      `lxc.hook.mount: ${pathOf('hooks', 'share')} ${pathOf('arguments', 'share')}`,
      'lxc.hook.start: /var/lib/hatchery/first-boot/hook',
    ]);
    const { node } = await guest(machine);
    const fileOf = (place: string, name: string) => {
      const { base64, mode } = nodeFiles().get(volumeKey(node, pathOf(place, name)))!;
      return { mode, text: Buffer.from(base64, 'base64').toString() };
    };
    expect(fileOf('hooks', 'tools')).toEqual({ mode: 'runnable', text: TOOLS });
    expect(fileOf('hooks', 'share')).toEqual({ mode: 'runnable', text: SHARE });
    expect(fileOf('arguments', 'tools')).toEqual({ mode: 'guest', text: '{"lab":"b12"}' });
    expect(fileOf('arguments', 'share')).toEqual({ mode: 'guest', text: '{"server":"nas1"}' });
    expect(fileOf('reports', 'tools')).toEqual({ mode: 'guest', text: '' });
    expect(filesOf(machine)).toHaveLength(8);

    // Nobody but the container's root may read the password of the join, and only until the first boot is over.
    const { mode, text } = fileOf('arguments', 'first-boot');
    expect(mode).toBe('guest');
    expect(JSON.parse(text)).toEqual({
      version: 1,
      mac: machine.mac,
      update: true,
      packages: ['sssd'],
      realm: 'local.isima.fr',
      joinUser: 'svc-join',
      joinPassword: JOIN_PASSWORD,
      owner: machine.login,
      admins: ['it-staff'],
    });
    await at.world.open(machine);
    await at.world.runsAre('done', [machine]);
    expect(filesOf(machine)).toEqual([]);
    expect(await rawLines(machine)).toEqual([]);
    const rows = await at.world.query(
      'select inputs, to_jsonb(s) from runs r join steps s on s.run_id = r.id',
    );
    const effects = await at.world.query('select to_jsonb(e) from effects e');
    expect(JSON.stringify([rows, effects, at.world.journal()])).not.toContain(JOIN_PASSWORD);
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
