import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { QemuBench } from './qemu-bench.js';

const CREATE = 'POST /nodes/pve1/lxc';
const ARCHIVE = 'local:vztmpl/debian-12-standard_12.12-1_amd64.tar.zst';
const POOL = 'hatchery-demo';
const SSH_KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtCCaFOFHsQjUtLqZxDxPqH5VZb3SVUcjLXHnqeFnmW ada@lab';

describe('creating a container', () => {
  let bench: QemuBench;
  beforeAll(async () => {
    bench = await QemuBench.start({ pools: ['prod'] });
  });
  afterAll(() => bench.stop());

  const config = (vmid: number, node = 'pve1'): Promise<Record<string, unknown>> =>
    bench.read(`GET /nodes/${node}/lxc/${vmid}/config`);

  it('unpacks the archive with what it was given, and fills in the rest', async () => {
    const log = await bench.log(CREATE, {
      vmid: 105,
      ostemplate: ARCHIVE,
      hostname: 'vm-ada',
      description: 'for Ada\n[hatchery v1 vmid=105]',
      cores: 4,
      memory: 12_288,
      features: 'nesting=1',
      net0: 'name=eth0,bridge=vmbr0,hwaddr=02:00:00:00:00:0A,ip=dhcp',
      rootfs: 'ceph:50',
      pool: 'prod',
      'ssh-public-keys': SSH_KEY,
      password: 'long enough',
    });
    expect(log).toContain(
      "extracting archive '/var/lib/vz/template/cache/debian-12-standard_12.12-1_amd64.tar.zst'",
    );
    expect(await config(105)).toEqual({
      arch: 'amd64',
      cores: 4,
      description: 'for Ada\n[hatchery v1 vmid=105]\n',
      digest: expect.stringMatching(/^[0-9a-f]{40}$/),
      features: 'nesting=1',
      hostname: 'vm-ada',
      memory: 12_288,
      net0: 'name=eth0,bridge=vmbr0,hwaddr=02:00:00:00:00:0A,ip=dhcp,type=veth',
      ostype: 'debian',
      rootfs: 'ceph:vm-105-disk-0,size=50G',
      swap: 512,
      unprivileged: 1,
    });
    expect(bench.world.pools.get('prod')!.members.has(105)).toBe(true);
    const keys = bench.world.guests.get(105)!.files.get('/root/.ssh/authorized_keys')!;
    expect(Buffer.from(keys, 'base64').toString()).toBe(SSH_KEY);
    const lines = bench.bench.context.journal
      .read()
      .filter(({ op, vmid }) => op === 'lxc.create' && vmid === 105);
    expect(lines.map(({ event }) => event)).toEqual(['task-start', 'request', 'task-end']);
    expect(lines[1]!.params).toMatchObject({ password: '***' });
    expect(lines[2]).toMatchObject({
      effect: true,
      params: { pool: 'prod', name: 'vm-ada', mac: '02:00:00:00:00:0a', mark: '[hatchery v1 vmid=105]' },
    });
  });

  it('holds id and flock until it is done, and shows nothing of the config before the system is unpacked', async () => {
    bench.simulator.hold('lxc.create', 'task');
    const form = { vmid: 106, ostemplate: ARCHIVE, rootfs: 'ceph:8' };
    const upid = await bench.read<string>(CREATE, form);
    await bench.simulator.reached('lxc.create', 'task');
    expect(await config(106)).toMatchObject({ lock: 'create' });
    expect(await bench.refusal(CREATE, form)).toBe("CT 106 already exists on node 'pve1'");
    expect(await bench.refusal('POST /nodes/pve2/lxc', { ...form, vmid: 100 })).toBe(
      "VM 100 already exists on node 'pve1'",
    );
    expect(await bench.refusal('PUT /nodes/pve1/lxc/106/config', { cores: 1 })).toBe(
      "can't lock file '/run/lock/lxc/pve-config-106.lock' - got timeout",
    );
    bench.simulator.release('lxc.create', 'task');
    expect((await bench.bench.follow(upid)).exit).toBe('OK');
    expect(await config(106)).toMatchObject({ hostname: 'CT106', memory: 512 });
  });

  it('leaves nothing when the archive is not on the node', async () => {
    const missing = 'local:vztmpl/debian-11-standard_11.7-1_amd64.tar.zst';
    expect(await bench.exit(CREATE, { vmid: 107, ostemplate: missing, rootfs: 'ceph:8' })).toBe(
      `unable to create CT 107 - volume '${missing}' does not exist`,
    );
    expect(bench.world.guests.has(107)).toBe(false);
    expect([...bench.world.volumes.values()].some(({ vmid }) => vmid === 107)).toBe(false);
  });

  it('refuses what makes no sense', async () => {
    const form = { vmid: 108, ostemplate: ARCHIVE, rootfs: 'ceph:8' };
    const refusal = (more: Record<string, string | number>): Promise<string> =>
      bench.refusal(CREATE, { ...form, ...more });
    expect(await bench.refusal(CREATE, { vmid: 108, ostemplate: ARCHIVE })).toBe(
      '{"storage":"storage \'local\' does not support container directories"}',
    );
    expect(await bench.refusal(CREATE, { vmid: 108, ostemplate: ARCHIVE, mp0: 'ceph:8,mp=/srv' })).toBe(
      "mount points configured, but 'rootfs' not set - aborting",
    );
    expect(await refusal({ ostemplate: 'local:iso/x.iso' })).toBe(
      "unable to use volume local:iso/x.iso - content type needs to be 'vztmpl'",
    );
    expect(await refusal({ 'lxc.idmap': 'u 0 0 65536' })).toContain('property is not defined in schema');
    expect(await refusal({ hostname: 'x\ny' })).toContain('does not look like a valid DNS name');
    expect(await refusal({ 'ssh-public-keys': 'ssh-ed25519 nonsense' })).toBe(
      'SSH public key validation error',
    );
    expect(await refusal({ pool: 'nosuch' })).toBe("Permission check failed (pool 'nosuch' does not exist)");
  });

  it('lets a token do only what no root on the node is needed for', async () => {
    const form = { vmid: 10_109, ostemplate: ARCHIVE, rootfs: 'ceph:8', pool: POOL };
    const refusal = (more: Record<string, string | number>): Promise<string> =>
      bench.refusal(CREATE, { ...form, ...more }, 'deployment');
    const failed = (why: string): string => `Permission check failed (${why})`;
    expect(await refusal({ mp0: '/mnt/homes,mp=/home' })).toBe(
      failed('mount point type bind is only allowed for root@pam'),
    );
    expect(await refusal({ mp0: '/dev/sdb,mp=/disk' })).toBe(
      failed('mount point type device is only allowed for root@pam'),
    );
    expect(await refusal({ dev0: '/dev/fuse' })).toBe(
      failed('configuring device passthrough is only allowed for root@pam'),
    );
    expect(await refusal({ hookscript: 'local:snippets/hook.sh' })).toBe(
      failed('changing the hookscript is only allowed for root@pam'),
    );
    expect(await refusal({ features: 'nesting=1,keyctl=1' })).toBe(
      failed('changing feature flags (except nesting) is only allowed for root@pam'),
    );
    expect(await refusal({ unprivileged: 0, features: 'nesting=1' })).toBe(
      failed('changing feature flags for privileged container is only allowed for root@pam'),
    );
    expect(await refusal({ unprivileged: 0 })).toBe(failed('/, Sys.Modify'));
    expect(await bench.refusal(CREATE, { ...form, pool: 'prod' }, 'deployment')).toBe(
      'Permission check failed',
    );
    expect(await bench.exit(CREATE, { ...form, features: 'nesting=1' }, 'deployment')).toBe('OK');
  });

  it('makes it privileged by default before version 9', async () => {
    const old = await QemuBench.start({ version: '8.4' });
    try {
      expect(await old.exit(CREATE, { vmid: 105, ostemplate: ARCHIVE, rootfs: 'local-lvm:8' })).toBe('OK');
      const made = await old.read('GET /nodes/pve1/lxc/105/config');
      expect(made).not.toHaveProperty('unprivileged');
    } finally {
      await old.stop();
    }
  });
});
