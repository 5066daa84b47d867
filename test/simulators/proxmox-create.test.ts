import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { QemuBench } from './qemu-bench.js';

const CREATE = 'POST /nodes/pve1/qemu';

describe('creating a guest', () => {
  let bench: QemuBench;
  beforeEach(async () => {
    bench = await QemuBench.start();
  });
  afterEach(() => bench.stop());

  it('makes its disks, its cloud-init drive and what it was not told', async () => {
    const log = await bench.log(CREATE, {
      vmid: 105,
      name: 'web',
      memory: 2048,
      net0: 'virtio,bridge=vmbr0',
      scsi0: 'ceph:8,discard=on',
      ide2: 'ceph:cloudinit',
      pool: 'prod',
    });
    expect(log).toContain("scsi0: successfully created disk 'ceph:vm-105-disk-0,discard=on,size=8G'");
    expect(log.at(-1)).toBe('TASK OK');
    expect(await bench.config(105)).toMatchObject({
      name: 'web',
      memory: '2048',
      boot: 'order=scsi0;ide2;net0',
      ide2: 'ceph:vm-105-cloudinit,media=cdrom',
      net0: expect.stringMatching(/^virtio=BC:24:11/),
      smbios1: expect.stringMatching(/^uuid=/),
      meta: expect.stringMatching(/^creation-qemu=10\.1\.2,ctime=\d+$/),
    });
    expect(bench.world.pools.get('prod')!.members.has(105)).toBe(true);
    const end = bench.bench.context.journal
      .read()
      .find((line) => line.op === 'qemu.create' && line.event === 'task-end');
    expect(end).toMatchObject({ effect: true, vmid: 105, params: { pool: 'prod', name: 'web' } });
  });

  it('imports an image of the size that it has', async () => {
    await bench.make(105, { scsi0: 'local-lvm:0,import-from=nfs:import/cloud.qcow2' });
    expect((await bench.config(105))['scsi0']).toBe('local-lvm:vm-105-disk-0,size=3G');
  });

  it('starts it in a task of its own', async () => {
    await bench.make(105, { start: 1 });
    const [start] = await bench.read<{ upid: string }[]>(
      'GET /nodes/pve1/tasks?source=all&typefilter=qmstart&vmid=105',
    );
    expect((await bench.bench.follow(start!.upid)).exit).toBe('OK');
  });

  it('hands it to HA', async () => {
    await bench.make(105, { 'ha-managed': 1 });
    expect(await bench.read(`GET /nodes/pve1/qemu/105/status/current`)).toMatchObject({
      ha: { managed: 1, state: 'stopped' },
    });
  });

  it('refuses an id that a guest anywhere holds', async () => {
    expect(await bench.refusal(CREATE, { vmid: 100 })).toBe(
      "unable to create VM 100 - VM 100 already exists on node 'pve1'",
    );
    expect(await bench.refusal('POST /nodes/pve3/qemu', { vmid: 101 })).toBe(
      "unable to create VM 101 - CT 101 already exists on node 'pve2'",
    );
  });

  it('holds the id and its flock until it is done', async () => {
    bench.simulator.hold('qemu.create', 'task');
    const upid = await bench.read<string>(CREATE, { vmid: 105 });
    await bench.simulator.reached('qemu.create', 'task');
    expect(await bench.config(105)).toMatchObject({ lock: 'create' });
    expect(await bench.refusal(CREATE, { vmid: 105 })).toBe(
      "unable to create VM 105 - can't lock file '/var/lock/qemu-server/lock-105.conf' - got timeout",
    );
    bench.simulator.release('qemu.create', 'task');
    expect((await bench.bench.follow(upid)).exit).toBe('OK');
  });

  it.each([
    [{ scsi0: 'gone:8' }, "storage 'gone' does not exist"],
    [{ scsi0: '8' }, 'no storage ID specified (and no default storage)'],
    [{ scsi0: '/dev/sdb' }, 'Only root can pass arbitrary filesystem paths.'],
    [
      { archive: 'nfs:backup/x.vma' },
      'unable to restore VM 105 - there are no backups in this simulated cluster',
    ],
    [{ pool: 'gone' }, "Permission check failed (pool 'gone' does not exist)"],
    [{ scsi0: 'iso:8' }, `{"storage":"storage 'iso' does not support vm images"}`],
    [
      { scsi0: 'ceph:8,import-from=nfs:import/cloud.qcow2' },
      `{"scsi0":"'import-from' requires special syntax - use <storage ID>:0,import-from=<source>"}`,
    ],
    [{ hookscript: 'nfs:snippets/x' }, "only root can set 'hookscript' config"],
    [{ serial0: '/dev/ttyS0' }, "only root can set 'serial0' config for real devices"],
    [{ force: 1 }, `{"archive":"missing property required by 'force'"}`],
    [{ sshkeys: 'ssh-rsa' }, 'SSH public key validation error'],
  ])('refuses %j at once', async (form, why) => {
    expect(await bench.refusal(CREATE, { vmid: 105, ...form })).toBe(why);
    expect(bench.simulator.guest(105)).toBeUndefined();
  });

  it.each([
    [{ scsi0: 'off:8' }, "unable to create VM 105 - storage 'off' is disabled"],
    [{ scsi0: 'only2:8' }, "unable to create VM 105 - storage 'only2' is not available on node 'pve1'"],
    [
      { ide2: 'ceph:cloudinit', ide3: 'ceph:cloudinit' },
      "unable to create VM 105 - ide3 - cloud-init drive is already attached at 'ide2'",
    ],
    [
      { ide2: 'nfs:iso/gone.iso,media=cdrom' },
      "unable to create VM 105 - volume 'nfs:iso/gone.iso' does not exist",
    ],
  ])('fails in its task with %j, and leaves nothing', async (form, why) => {
    expect(await bench.exit(CREATE, { vmid: 105, ...form })).toBe(why);
    expect(bench.simulator.guest(105)).toBeUndefined();
    expect([...bench.world.volumes.values()].filter(({ vmid }) => vmid === 105)).toEqual([]);
  });

  it('leaves its disks when it cannot join the pool', async () => {
    bench.simulator.hold('qemu.create', 'task');
    const upid = await bench.read<string>(CREATE, { vmid: 105, scsi0: 'ceph:1', pool: 'prod' });
    await bench.simulator.reached('qemu.create', 'task');
    bench.world.pools.delete('prod');
    bench.simulator.release('qemu.create', 'task');
    expect((await bench.bench.follow(upid)).exit).toBe("pool 'prod' does not exist");
    expect(bench.simulator.guest(105)).toBeUndefined();
    expect(bench.world.volumes.has('ceph:vm-105-disk-0')).toBe(true);
  });

  it.each([
    ['ceph', "rbd create 'vm-105-cloudinit' error: rbd: create error: (17) File exists"],
    [
      'local-lvm',
      `lvcreate 'local-lvm/vm-105-cloudinit' error:   Logical Volume "vm-105-cloudinit" already exists in volume group "local-lvm"`,
    ],
    ['nfs', "disk image '/mnt/pve/nfs/images/105/vm-105-cloudinit.qcow2' already exists"],
  ])('trips over a volume that is left on %s', async (storage, why) => {
    await bench.make(105, { ide2: `${storage}:cloudinit` });
    const kept = new Map(bench.world.volumes);
    expect(await bench.exit('DELETE /nodes/pve1/qemu/105')).toBe('OK');
    for (const [key, volume] of kept) bench.world.volumes.set(key, volume);
    const clone = { newid: 105, full: 1, storage };
    const exit =
      storage === 'nfs'
        ? await bench.exit('POST /nodes/pve1/qemu/9000/clone', { ...clone, format: 'qcow2' })
        : await bench.exit('POST /nodes/pve1/qemu/9000/clone', clone);
    expect(exit).toBe(`clone failed: ${why}`);
  });

  it('needs the right of each key, on the guest or on its pool', async () => {
    const form = { vmid: 10_500, pool: 'hatchery-demo', scsi0: 'ceph:1', net0: 'virtio,bridge=vmbr0' };
    expect(await bench.exit(CREATE, form, 'deployment')).toBe('OK');
    expect(await bench.refusal(CREATE, { vmid: 10_501 }, 'deployment')).toBe('Permission check failed');
    expect(await bench.refusal(CREATE, { ...form, vmid: 10_501, startup: 'order=1' }, 'deployment')).toBe(
      'Permission check failed (/, Sys.Modify)',
    );
  });
});
