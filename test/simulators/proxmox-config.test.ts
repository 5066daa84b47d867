import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GUEST, QemuBench } from './qemu-bench.js';

const PUT = `PUT ${GUEST}/config`;
const POST = `POST ${GUEST}/config`;

describe('the config of a guest', () => {
  let bench: QemuBench;
  beforeEach(async () => {
    bench = await QemuBench.start();
    bench.simulator.foreign.setRunning(100, false);
  });
  afterEach(() => bench.stop());

  it('detaches a disk as unused, attaches it again, and frees it when it is unlinked', async () => {
    await bench.read(PUT, { scsi1: 'ceph:5' });
    expect((await bench.config())['scsi1']).toBe('ceph:vm-100-disk-1,size=5G');
    await bench.read(PUT, { delete: 'scsi1' });
    expect(await bench.config()).toMatchObject({ unused0: 'ceph:vm-100-disk-1' });
    await bench.read(PUT, { virtio0: 'ceph:vm-100-disk-1' });
    const again = await bench.config();
    expect(again['virtio0']).toBe('ceph:vm-100-disk-1,size=5G');
    expect(again['unused0']).toBeUndefined();
    await bench.read(PUT, { delete: 'virtio0' });
    await bench.read(`PUT ${GUEST}/unlink`, { idlist: 'unused0' });
    expect(bench.world.volumes.has('ceph:vm-100-disk-1')).toBe(false);
    await bench.read(PUT, { scsi1: 'ceph:5' });
    await bench.read(`PUT ${GUEST}/unlink`, { idlist: 'scsi1', force: 1 });
    expect(bench.world.volumes.has('ceph:vm-100-disk-1')).toBe(false);
  });

  it('frees a cloud-init drive that is removed, and takes one only once', async () => {
    await bench.read(PUT, { ide2: 'ceph:cloudinit' });
    expect(await bench.refusal(PUT, { ide3: 'ceph:cloudinit' })).toBe(
      "ide3 - cloud-init drive is already attached at 'ide2'",
    );
    await bench.read(PUT, { delete: 'ide2' });
    expect(bench.world.volumes.has('ceph:vm-100-cloudinit')).toBe(false);
  });

  it('keeps for the next start what is not hot-plugged, shows it, and takes it back', async () => {
    bench.simulator.foreign.setRunning(100, true);
    const { digest } = await bench.config();
    await bench.read(PUT, {
      cores: 8,
      sata0: 'ceph:1',
      net0: 'virtio,bridge=vmbr1',
      ciuser: 'ada',
      delete: 'boot',
    });
    const pending = await bench.read<{ key: string }[]>(`GET ${GUEST}/pending`);
    const of = (key: string) => pending.find((row) => row.key === key);
    expect(of('cores')).toEqual({ key: 'cores', value: 2, pending: 8 });
    expect(of('boot')).toEqual({ key: 'boot', value: 'order=scsi0', delete: 1 });
    expect(of('net0')).toEqual({ key: 'net0', value: expect.stringContaining('vmbr1') });
    expect(of('ciuser')).toEqual({ key: 'ciuser', value: 'ada' });
    expect((await bench.config())['digest']).not.toBe(digest);
    await bench.read(PUT, { revert: 'cores,boot' });
    expect(await bench.config()).toMatchObject({ cores: 2, boot: 'order=scsi0' });
    expect(await bench.exit(`POST ${GUEST}/status/reboot`)).toBe('OK');
    expect(bench.simulator.guest(100)!.config['sata0']).toBe('ceph:vm-100-disk-1,size=1G');
  });

  it('is written in a task, or at once if that is quick enough', async () => {
    expect(await bench.exit(POST, { scsi1: 'ceph:1' })).toBe('OK');
    expect(await bench.read(POST, { onboot: 1, background_delay: 30 })).toBeNull();
    expect(await bench.refusal(POST, { scsi2: 'off:1', background_delay: 30 })).toBe(
      "storage 'off' is disabled",
    );
    bench.simulator.hold('qemu.config.post', 'task-start');
    const upid = await bench.read<string>(POST, { onboot: 0, background_delay: 1 });
    bench.simulator.release('qemu.config.post', 'task-start');
    expect((await bench.bench.follow(upid)).exit).toBe('OK');
  });

  it('waits ten seconds for the flock', async () => {
    bench.simulator.hold('qemu.start', 'task');
    const upid = await bench.read<string>(`POST ${GUEST}/status/start`);
    await bench.simulator.reached('qemu.start', 'task');
    const late = "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout";
    expect(await bench.refusal(PUT, { onboot: 1 })).toBe(late);
    expect(await bench.refusal(POST, { onboot: 1 })).toBe(late);
    expect(await bench.exit(`POST ${GUEST}/status/stop`)).toBe(late);
    bench.simulator.release('qemu.start', 'task');
    await bench.bench.follow(upid);
  });

  it.each([
    [{ delete: 'nothing' }, `{"delete":"unknown option 'nothing'"}`],
    [
      { delete: 'cores', cores: 1 },
      `{"delete":"you can't use '-cores' and -delete cores' at the same time"}`,
    ],
    [
      { revert: 'cores', cores: 1 },
      `{"revert":"you can't use '-cores' and '-revert cores' at the same time"}`,
    ],
    [
      { revert: 'cores', delete: 'cores' },
      `{"revert":"you can't use '-delete cores' and '-revert cores' at the same time"}`,
    ],
    [{ revert: 'nothing' }, `{"revert":"unknown option 'nothing'"}`],
    [{ skiplock: 1, onboot: 1 }, `{"skiplock":"Only root may use this option."}`],
    [{ affinity: '0-3' }, "only root can set 'affinity' config"],
    [{ args: '-x' }, "only root can set 'args' config"],
    [{ usb0: 'host=1234:5678' }, "only root can set 'usb0' config for real devices"],
    [{ hostpci0: '01:00.0' }, "only root can set 'hostpci0' config for non-mapped devices"],
    [{ scsi3: 'ceph:vm-100-disk-9' }, "volume 'ceph:vm-100-disk-9' does not exist"],
  ])('refuses %j', async (form, why) => {
    expect(await bench.refusal(PUT, form)).toBe(why);
  });

  it('lets root with a ticket set root keys and take a left-behind lock away', async () => {
    await bench.read(PUT, { args: '-x', hookscript: 'nfs:snippets/hook.pl' }, 'ticket');
    expect(await bench.config()).toMatchObject({ args: '-x' });
    bench.simulator.foreign.edit(100, { lock: 'backup' });
    expect(await bench.refusal(PUT, { delete: 'lock' }, 'ticket')).toBe('VM is locked (backup)');
    await bench.read(PUT, { delete: 'lock', skiplock: 1 }, 'ticket');
    expect((await bench.config())['lock']).toBeUndefined();
  });

  it('protects disks', async () => {
    await bench.read(PUT, { protection: 1 });
    expect(await bench.refusal(PUT, { delete: 'scsi0' })).toBe(
      "can't remove drive 'scsi0' - protection mode enabled",
    );
    expect(await bench.refusal(`DELETE ${GUEST}`)).toBe("can't remove VM 100 - protection mode enabled");
    bench.simulator.foreign.edit(100, { unused0: 'ceph:vm-100-disk-7' });
    expect(await bench.refusal(PUT, { delete: 'unused0' })).toBe(
      "can't remove unused disk 'ceph:vm-100-disk-7' - protection mode enabled",
    );
  });

  it('asks each key its own right', async () => {
    bench.world.roles.set('Limited', ['VM.Audit', 'VM.Config.CPU']);
    const { id } = bench.simulator.token;
    for (const ugid of [id, id.slice(0, id.indexOf('!'))])
      bench.world.acl.push({ path: '/vms/100', ugid, role: 'Limited', propagate: true });
    await bench.read(PUT, { cores: 3 }, 'deployment');
    const refused = async (form: Record<string, string | number>): Promise<string> =>
      bench.refusal(PUT, form, 'deployment');
    expect(await refused({ memory: 1024 })).toBe('Permission check failed (/vms/100, VM.Config.Memory)');
    expect(await refused({ scsi1: 'ceph:1' })).toBe('Permission check failed (/vms/100, VM.Config.Disk)');
    expect(await refused({ ide2: 'none,media=cdrom' })).toBe(
      'Permission check failed (/vms/100, VM.Config.CDROM)',
    );
    expect(await refused({ ciuser: 'x' })).toBe(
      'Permission check failed (/vms/100, VM.Config.Cloudinit|VM.Config.Network)',
    );
    expect(await refused({ freeze: 1 })).toBe('Permission check failed (/vms/100, VM.PowerMgmt)');
  });

  it('knows property strings and limits of its keys', async () => {
    const reply = await bench.send(PUT, {
      agent: 'enabled=2',
      machine: 'pc-x',
      scsi0: 'file=ceph:1,cache=no',
      cpulimit: 129,
      vga: 'type=cga',
      ipconfig0: 'gw=10.0.0.1',
      tags: '-a',
    });
    expect(Object.keys(reply.json.errors as object).sort()).toEqual([
      ...['agent', 'cpulimit', 'ipconfig0', 'machine', 'scsi0', 'tags', 'vga'],
    ]);
  });

  it('is refused without a quorum, and read', async () => {
    bench.simulator.conditions.loseQuorum();
    expect(await bench.refusal(PUT, { onboot: 1 })).toBe('cluster not ready - no quorum?');
    expect(await bench.config()).toMatchObject({ name: 'gitlab' });
  });
});
