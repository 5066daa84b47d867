import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GUEST, QemuBench } from './qemu-bench.js';

describe('what becomes of a guest', () => {
  let bench: QemuBench;
  beforeEach(async () => {
    bench = await QemuBench.start();
  });
  afterEach(() => bench.stop());

  describe('as a template', () => {
    const convert = 'POST /nodes/pve1/qemu/105/template';
    beforeEach(() => bench.make(105, { scsi0: 'ceph:1', ide2: 'ceph:cloudinit' }));

    it('has base images that clones share', async () => {
      expect(await bench.exit(convert)).toBe('OK');
      expect(await bench.config(105)).toMatchObject({
        template: 1,
        scsi0: 'ceph:base-105-disk-0,size=1G',
        ide2: 'ceph:vm-105-cloudinit,media=cdrom',
      });
      expect(await bench.exit('POST /nodes/pve1/qemu/105/clone', { newid: 106 })).toBe('OK');
      expect(await bench.config(106)).toMatchObject({
        name: 'Copy-of-VM-105',
        scsi0: 'ceph:base-105-disk-0/vm-106-disk-0,size=1G',
      });
      expect(await bench.exit('DELETE /nodes/pve1/qemu/105')).toBe(
        "base volume 'ceph:base-105-disk-0' is still in use by linked cloned",
      );
      expect(await bench.refusal(convert)).toBe("you can't convert a template to a template");
    });

    it('neither runs nor has snapshots', async () => {
      await bench.exit('POST /nodes/pve1/qemu/105/snapshot', { snapname: 'first' });
      expect(await bench.refusal(convert)).toBe('unable to create template, because VM contains snapshots');
      expect(await bench.refusal(`POST ${GUEST}/template`)).toBe(
        "you can't convert a VM to template if VM is running",
      );
      await bench.make(106, { scsi0: 'thick:1' });
      expect(await bench.exit('POST /nodes/pve1/qemu/106/template')).toBe(
        "volume 'thick:vm-106-disk-0' does not support template/clone",
      );
    });
  });

  describe('its disk', () => {
    const move = `POST ${GUEST}/move_disk`;

    it('moves to another storage and leaves the old one unused or not at all', async () => {
      expect(await bench.exit(move, { disk: 'scsi0', storage: 'local-lvm' })).toBe('OK');
      expect(await bench.config()).toMatchObject({
        scsi0: 'local-lvm:vm-100-disk-0,size=32G',
        unused0: 'ceph:vm-100-disk-0',
      });
      expect(await bench.exit(move, { disk: 'scsi0', storage: 'nfs', format: 'qcow2', delete: 1 })).toBe(
        'OK',
      );
      expect(await bench.config()).toMatchObject({ scsi0: 'nfs:100/vm-100-disk-0.qcow2,size=32G' });
      expect(bench.world.volumes.has('pve1/local-lvm:vm-100-disk-0')).toBe(false);
    });

    it('is given to another guest', async () => {
      await bench.make(105);
      await bench.read(`PUT ${GUEST}/config`, { scsi1: 'ceph:2' });
      const form = { disk: 'scsi1', 'target-vmid': 105, 'target-disk': 'virtio0' };
      expect(await bench.exit(move, form)).toBe('OK');
      expect((await bench.config())['scsi1']).toBeUndefined();
      expect((await bench.config(105))['virtio0']).toBe('ceph:vm-105-disk-0,size=2G');
      expect(await bench.refusal(move, { ...form, disk: 'scsi0' })).toBe(
        "Target disk key 'virtio0' is already in use for VM '105'!",
      );
    });

    it.each([
      [{ disk: 'scsi0', storage: 'ceph' }, "you can't move to the same storage with same format"],
      [{ disk: 'scsi7', storage: 'nfs' }, "disk 'scsi7' does not exist"],
      [{ disk: 'scsi0', storage: 'iso' }, `{"storage":"storage 'iso' does not support vm images"}`],
      [{ disk: 'scsi0', storage: 'nfs', digest: 'x' }, 'checksum mismatch (file change by other user?)'],
      [
        { disk: 'scsi0', storage: 'nfs', 'target-vmid': 105 },
        `{"target-vmid":"either set 'storage' or 'target-vmid', but not both"}`,
      ],
    ])('is not moved with %j', async (form, why) => {
      expect(await bench.refusal(move, form)).toBe(why);
    });

    it('with a snapshot is not moved away from it', async () => {
      await bench.exit(`POST ${GUEST}/snapshot`, { snapname: 'first' });
      expect(await bench.refusal(move, { disk: 'scsi0', storage: 'nfs', delete: 1 })).toBe(
        "you can't move a disk with snapshots and delete the source",
      );
    });
  });

  describe('on its way to another node', () => {
    const migrate = `POST ${GUEST}/migrate`;

    it('keeps running and holds its disks on shared storage', async () => {
      expect(await bench.read(`GET ${GUEST}/migrate`)).toMatchObject({ running: 1, local_disks: [] });
      expect(await bench.refusal(migrate, { target: 'pve2' })).toBe(
        "can't migrate running VM without --online",
      );
      expect(await bench.exit(migrate, { target: 'pve2', online: 1 })).toBe('OK');
      expect(await bench.read('GET /nodes/pve2/qemu/100/status/current')).toMatchObject({
        status: 'running',
      });
      expect(await bench.refusal(`GET ${GUEST}/config`)).toBe(
        "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist",
      );
    });

    it('copies local disks only when it may', async () => {
      await bench.make(105, { scsi0: 'local-lvm:1', start: 0 });
      bench.simulator.foreign.setRunning(105, true);
      const path = 'POST /nodes/pve1/qemu/105/migrate';
      const log = await bench.log(path, { target: 'pve2', online: 1 });
      expect(log).toContain(
        "can't migrate local disk 'local-lvm:vm-105-disk-0': can't live migrate attached local disks without with-local-disks option",
      );
      expect(log.at(-1)).toBe('TASK ERROR: migration aborted');
      const form = { target: 'pve2', online: 1, 'with-local-disks': 1, targetstorage: 'ceph' };
      expect(await bench.exit(path, form)).toBe('OK');
      expect(bench.simulator.guest(105)).toMatchObject({
        node: 'pve2',
        config: { scsi0: 'ceph:vm-105-disk-0,size=1G' },
      });
    });

    it.each([
      [{ target: 'pve1' }, '{"target":"target is local node."}'],
      [{ target: 'pve9' }, "no such cluster node 'pve9'"],
      [{ target: 'pve2', online: 1, force: 1 }, '{"force":"Only root may use this option."}'],
      [
        { target: 'pve2', online: 1, migration_type: 'insecure' },
        '{"migration_type":"Only root may use this option."}',
      ],
      [
        { target: 'pve3', online: 1, targetstorage: 'only2' },
        "storage 'only2' is not available on node 'pve3'",
      ],
    ])('is not sent with %j', async (form, why) => {
      expect(await bench.refusal(migrate, form)).toBe(why);
    });

    it('is held back by a lock', async () => {
      bench.simulator.foreign.edit(100, { lock: 'backup' });
      expect(await bench.refusal(migrate, { target: 'pve2', online: 1 })).toBe('VM is locked (backup)');
    });
  });

  describe('as a copy', () => {
    const clone = `POST ${GUEST}/clone`;

    it.each([
      [{ storage: 'gone' }, "storage 'gone' does not exist"],
      [{ storage: 'off' }, "storage 'off' is disabled"],
      [{ storage: 'only2' }, "storage 'only2' is not available on node 'pve1'"],
      [{ storage: 'iso' }, `{"storage":"storage 'iso' does not support vm images"}`],
      [{ storage: 'local-lvm', target: 'pve2' }, "can't clone to non-shared storage 'local-lvm'"],
      [{ full: 0 }, "Linked clone feature is not supported for 'ceph:vm-100-disk-0' (scsi0)"],
      [{ full: 0, storage: 'ceph' }, "parameter 'storage' not allowed for linked clones"],
      [{ full: 0, format: 'raw' }, "parameter 'format' not allowed for linked clones"],
    ])('is not made with %j', async (form, why) => {
      expect(await bench.refusal(clone, { newid: 105, ...form })).toBe(why);
    });

    it('takes over all but what makes it another, and nobody else can take its firewall lock', async () => {
      bench.simulator.foreign.edit(100, {
        tags: 'a;b',
        onboot: '1',
        cicustom: 'user=nfs:snippets/user.yaml',
      });
      expect(await bench.exit(clone, { newid: 105 })).toBe('OK');
      const copy = await bench.config(105);
      expect(copy).toMatchObject({
        name: 'Copy-of-VM-gitlab',
        tags: 'a;b',
        onboot: 1,
        cicustom: 'user=nfs:snippets/user.yaml',
      });
      expect(copy['smbios1']).not.toBe((await bench.config())['smbios1']);
      const locks = bench.bench.context.journal.read().filter((line) => line.event === 'hold');
      expect(locks.map((line) => line.resource)).toContain('firewall-vm-105');
    });
  });

  it('tells what its disks can', async () => {
    const feature = async (vmid: number, name: string): Promise<unknown> =>
      bench.read(`GET /nodes/pve1/qemu/${vmid}/feature?feature=${name}`);
    expect(await feature(9000, 'clone')).toEqual({ hasFeature: 1, nodes: ['pve1', 'pve2', 'pve3'] });
    expect(await feature(100, 'clone')).toEqual({ hasFeature: 0, nodes: [] });
    expect(await feature(100, 'copy')).toMatchObject({ hasFeature: 1 });
  });

  describe('in its cloud-init drive', () => {
    it('is what it was told at the last start or regeneration', async () => {
      await bench.make(105, {
        name: 'web.example.org',
        ide2: 'ceph:cloudinit',
        ciuser: 'ada',
        ipconfig0: 'ip=10.0.0.5/24,gw=10.0.0.1',
        net0: 'virtio,bridge=vmbr0',
        nameserver: '10.0.0.2',
      });
      const path = '/nodes/pve1/qemu/105/cloudinit';
      const row = async (key: string): Promise<unknown> =>
        (await bench.read<{ key: string }[]>(`GET ${path}`)).find((one) => one.key === key);
      expect(await row('ciuser')).toEqual({ key: 'ciuser', pending: 'ada' });
      expect(await bench.read(`PUT ${path}`)).toBeNull();
      expect(await row('ciuser')).toEqual({ key: 'ciuser', value: 'ada' });
      const user = await bench.read(`GET ${path}/dump?type=user`);
      expect(user).toContain('hostname: web\nmanage_etc_hosts: true\nfqdn: web.example.org\nuser: ada\n');
      const network = await bench.read(`GET ${path}/dump?type=network`);
      expect(network).toContain("        address: '10.0.0.5/24'\n        gateway: '10.0.0.1'\n");
      expect(await bench.read(`GET ${path}/dump?type=meta`)).toMatch(/^instance-id: [0-9a-f]{40}\n$/);
    });

    it.each([
      ['user=nfs:snippets/user.yaml', 'OK'],
      ['user=nfs:iso/debian.iso', 'nfs:iso/debian.iso is not in the snippets directory'],
      [
        'user=nfs:snippets/gone.yaml',
        "can't open '/mnt/pve/nfs/snippets/gone.yaml' - No such file or directory",
      ],
    ])('is custom text from a snippet: %s', async (cicustom, exit) => {
      await bench.make(105, { ide2: 'ceph:cloudinit', cicustom });
      expect(await bench.exit('POST /nodes/pve1/qemu/105/status/start')).toBe(exit);
    });
  });

  it('may be a container of somebody: listed, read, in the way', async () => {
    expect(await bench.read('GET /nodes/pve2/lxc')).toContainEqual(
      expect.objectContaining({ vmid: 101, name: 'proxy', type: 'lxc', status: 'running' }),
    );
    expect(await bench.read('GET /nodes/pve2/lxc/101/status/current')).toMatchObject({ ha: { managed: 0 } });
    expect(await bench.read('GET /nodes/pve2/lxc/101/config')).toMatchObject({
      hostname: 'proxy',
      cores: 2,
      digest: expect.stringMatching(/^[0-9a-f]{40}$/),
    });
    expect(await bench.refusal('GET /nodes/pve2/qemu/101/config')).toBe(
      "Configuration file 'nodes/pve2/qemu-server/101.conf' does not exist",
    );
    expect(await bench.exit(`POST ${GUEST}/clone`, { newid: 101 })).toBe(
      "close (rename) atomic file '/etc/pve/nodes/pve1/qemu-server/101.conf' failed: File exists",
    );
  });
});
