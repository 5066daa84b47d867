import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { QemuBench } from './qemu-bench.js';

const CLONE = 'POST /nodes/pve1/lxc/9100/clone';
const ARCHIVE = 'local:vztmpl/debian-12-standard_12.12-1_amd64.tar.zst';
const POOL = 'hatchery-demo';

describe('copies of containers', () => {
  let bench: QemuBench;
  beforeAll(async () => {
    bench = await QemuBench.start({
      storages: [
        { id: 'ceph', type: 'rbd', shared: true, sizeGiB: 1_000 },
        { id: 'tank', type: 'zfspool', shared: false, sizeGiB: 500 },
        { id: 'local', type: 'dir', shared: false, sizeGiB: 100, content: ['vztmpl', 'rootdir'] },
      ],
      containerTemplates: [
        { vmid: 9100, node: 'pve1', name: 'desktop' },
        { vmid: 9101, node: 'pve1', name: 'desktop', storage: 'local' },
        { vmid: 9102, node: 'pve1', name: 'desktop', storage: 'tank' },
      ],
      // On its disk, and so on the first storage.
      guests: [{ vmid: 120, node: 'pve1', kind: 'lxc', owner: 'alice', name: 'plain', running: false }],
    });
    bench.world.guests.get(9100)!.rawLines = [['lxc.idmap', 'u 0 100000 65536']];
  });
  afterAll(() => bench.stop());

  const config = (vmid: number, node = 'pve1'): Promise<Record<string, unknown>> =>
    bench.read(`GET /nodes/${node}/lxc/${vmid}/config`);
  const volumesOf = (vmid: number): string[] =>
    [...bench.world.volumes.values()].filter((one) => one.vmid === vmid).map(({ volid }) => volid);

  it('share the disk of a template, and take over everything but its MAC and what makes it one', async () => {
    const form = {
      newid: 10_200,
      hostname: 'vm-ada',
      description: '[hatchery v1 vmid=10200]',
      pool: POOL,
      target: 'pve2',
    };
    expect(await bench.exit(CLONE, form, 'deployment')).toBe('OK');
    const made = await config(10_200, 'pve2');
    expect(made).toEqual({
      arch: 'amd64',
      cores: 2,
      description: '[hatchery v1 vmid=10200]\n',
      digest: expect.any(String),
      features: 'nesting=1',
      hostname: 'vm-ada',
      lxc: [['lxc.idmap', 'u 0 100000 65536']],
      memory: 2048,
      net0: expect.stringMatching(/^name=eth0,bridge=vmbr0,hwaddr=BC:24:11:.*,ip=dhcp,type=veth$/),
      ostype: 'debian',
      rootfs: 'ceph:base-9100-disk-0/vm-10200-disk-0,size=8G',
      swap: 512,
      unprivileged: 1,
    });
    expect(made['net0']).not.toBe((await config(9100))['net0']);
    const end = bench.bench.context.journal
      .read()
      .find(({ op, event }) => op === 'lxc.clone' && event === 'task-end');
    expect(end).toMatchObject({
      effect: true,
      vmid: 10_200,
      node: 'pve2',
      params: { source: 9100, mode: 'linked', pool: POOL, name: 'vm-ada', mark: '[hatchery v1 vmid=10200]' },
    });
    expect(await bench.exit('DELETE /nodes/pve1/lxc/9100')).toBe(
      "base volume 'ceph:base-9100-disk-0' is still in use by linked cloned",
    );
  });

  it('lock their source until the task ends: a second one is refused and leaves nothing', async () => {
    bench.simulator.hold('lxc.clone', 'task');
    const upid = await bench.read<string>(CLONE, { newid: 10_201, description: 'mine' });
    await bench.simulator.reached('lxc.clone', 'task');
    expect(await config(9100)).toMatchObject({ lock: 'disk' });
    expect(await config(10_201)).toMatchObject({ lock: 'create', description: 'mine\n' });
    expect(await bench.refusal(CLONE, { newid: 10_202 })).toBe('CT is locked (disk)');
    expect(await bench.refusal(CLONE, { newid: 10_201 })).toBe("CT 10201 already exists on node 'pve1'");
    expect(bench.world.guests.has(10_202)).toBe(false);
    bench.simulator.release('lxc.clone', 'task');
    expect((await bench.bench.follow(upid)).exit).toBe('OK');
    expect(await config(9100)).not.toHaveProperty('lock');
    expect(await config(10_201)).not.toHaveProperty('lock');
  });

  it('leave the lock in the source for good when their task is killed', async () => {
    bench.simulator.hold('lxc.clone', 'task');
    const upid = await bench.read<string>('POST /nodes/pve1/lxc/9102/clone', { newid: 10_203 });
    await bench.simulator.reached('lxc.clone', 'task');
    bench.simulator.conditions.killTask(upid);
    bench.simulator.release('lxc.clone', 'task');
    expect((await bench.bench.follow(upid)).exit).toBe('unexpected status');
    expect(await config(9102)).toMatchObject({ lock: 'disk' });
    expect(await bench.refusal('POST /nodes/pve1/lxc/9102/clone', { newid: 10_204 })).toBe(
      'CT is locked (disk)',
    );
    bench.simulator.foreign.edit(9102, { lock: null });
  });

  it('free everything when they fail', async () => {
    bench.simulator.hold('lxc.clone', 'task');
    const upid = await bench.read<string>(CLONE, { newid: 10_205, pool: POOL });
    await bench.simulator.reached('lxc.clone', 'task');
    const { pools } = bench.world;
    const pool = pools.get(POOL)!;
    pools.delete(POOL);
    bench.simulator.release('lxc.clone', 'task');
    expect((await bench.bench.follow(upid)).exit).toBe(`clone failed: pool '${POOL}' does not exist`);
    pools.set(POOL, pool);
    expect(bench.world.guests.has(10_205)).toBe(false);
    expect(volumesOf(10_205)).toEqual([]);
    expect(await config(9100)).not.toHaveProperty('lock');
  });

  it.each([
    [CLONE, { newid: 10_208 }],
    ['POST /nodes/pve1/lxc', { vmid: 10_208, ostemplate: ARCHIVE, rootfs: 'ceph:8' }],
  ])('give their id and their source back when the task fails at its beginning: %s', async (call, form) => {
    const op = call === CLONE ? 'lxc.clone' : 'lxc.create';
    const { faults } = bench.bench.context;
    faults.add({ id: 'no', match: { op }, when: 'during', effect: 'task-error', value: 'no' });
    expect(await bench.exit(call, form)).toBe('no');
    faults.remove('no');
    expect(bench.world.guests.has(10_208)).toBe(false);
    expect(await config(9100)).not.toHaveProperty('lock');
  });

  it('are refused where nothing can be shared, and copied in full', async () => {
    const refusal = (from: number, form: Record<string, string | number> = {}): Promise<string> =>
      bench.refusal(`POST /nodes/pve1/lxc/${from}/clone`, { newid: 10_206, ...form });
    expect(await refusal(9101)).toBe(
      "Linked clone feature for 'local:9101/base-9101-disk-0.raw' is not available",
    );
    expect(await refusal(9100, { storage: 'tank' })).toBe(
      "parameter 'storage' not allowed for linked clones",
    );
    expect(await refusal(9101, { full: 1, target: 'pve2' })).toBe(
      "can't clone CT to node 'pve2' (CT uses local storage)",
    );
    expect(await refusal(9101, { full: 1, storage: 'tank', target: 'pve2' })).toBe(
      "can't clone to non-shared storage 'tank'",
    );
    bench.simulator.foreign.edit(120, { mp0: '/mnt/homes,mp=/home' });
    expect(await refusal(120)).toBe("unable to clone mountpoint 'mp0' (type bind)");
    bench.simulator.foreign.edit(120, { mp0: null });
    expect(await config(120)).not.toHaveProperty('lock');
    expect(
      await bench.exit('POST /nodes/pve1/lxc/9101/clone', { newid: 10_206, full: 1, storage: 'tank' }),
    ).toBe('OK');
    expect(await config(10_206)).toMatchObject({ rootfs: 'tank:subvol-10206-disk-0,size=8G' });
  });

  it('come from snapshots too, which keep the lxc lines and give them back', async () => {
    const path = '/nodes/pve1/lxc/120';
    bench.world.guests.get(120)!.rawLines = [['lxc.idmap', 'u 0 100000 65536']];
    expect(await bench.exit(`POST ${path}/snapshot`, { snapname: 'before' })).toBe('OK');
    bench.world.guests.get(120)!.rawLines = [];
    await bench.read(`PUT ${path}/config`, { cores: 7 });
    expect(await bench.exit(`POST ${path}/clone`, { newid: 10_207, snapname: 'before', full: 1 })).toBe('OK');
    expect(await config(10_207)).toMatchObject({ cores: 2, lxc: [['lxc.idmap', 'u 0 100000 65536']] });
    expect(await bench.exit(`POST ${path}/snapshot/before/rollback`)).toBe('OK');
    expect(await config(120)).toMatchObject({ cores: 2, lxc: [['lxc.idmap', 'u 0 100000 65536']] });
    expect(await bench.exit(`DELETE ${path}/snapshot/before`)).toBe('OK');
    bench.simulator.foreign.edit(120, { mp0: '/mnt/homes,mp=/home' });
    expect(await bench.exit(`POST ${path}/snapshot`, { snapname: 'again' })).toBe(
      'snapshot feature is not available',
    );
    bench.simulator.foreign.edit(120, { mp0: null });
  });

  it('become templates in a task that the answer does not name', async () => {
    const path = '/nodes/pve1/lxc/10206';
    expect(await bench.read(`POST ${path}/template`)).toBeNull();
    const [task] = await bench.read<{ upid: string }[]>(
      'GET /nodes/pve1/tasks?source=all&typefilter=vztemplate&vmid=10206',
    );
    expect((await bench.bench.follow(task!.upid)).exit).toBe('OK');
    expect(await config(10_206)).toMatchObject({ template: 1, rootfs: 'tank:basevol-10206-disk-0,size=8G' });
    expect(await bench.refusal(`POST ${path}/template`)).toBe("you can't convert a template to a template");
    expect(await bench.exit(`POST ${path}/status/start`)).toBe("you can't start a CT if it's a template");
  });

  it('grow to an absolute size or by some, and never shrink', async () => {
    const path = 'PUT /nodes/pve1/lxc/10201/resize';
    expect(await bench.exit(path, { disk: 'rootfs', size: '50G' })).toBe('OK');
    expect(await config(10_201)).toMatchObject({ rootfs: expect.stringMatching(/,size=50G$/) });
    expect(await bench.refusal(path, { disk: 'rootfs', size: '50G' })).toBe(
      'disk is already at specified size',
    );
    expect(await bench.refusal(path, { disk: 'rootfs', size: '8G' })).toBe('unable to shrink disk size');
    expect(await bench.exit(path, { disk: 'rootfs', size: '+1G' })).toBe('OK');
    expect(await config(10_201)).toMatchObject({ rootfs: expect.stringMatching(/,size=51G$/) });
  });
});
