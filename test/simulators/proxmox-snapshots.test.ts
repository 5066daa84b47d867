import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GUEST, QemuBench } from './qemu-bench.js';

const TAKE = `POST ${GUEST}/snapshot`;
const ROLL = (name: string): string => `POST ${GUEST}/snapshot/${name}/rollback`;

describe('snapshots of a guest', () => {
  let bench: QemuBench;
  beforeEach(async () => {
    bench = await QemuBench.start();
  });
  afterEach(() => bench.stop());

  const list = (): Promise<Record<string, unknown>[]> => bench.read(`GET ${GUEST}/snapshot`);

  it('are taken, listed with where you are, described and removed', async () => {
    expect(await bench.log(TAKE, { snapname: 'first', description: 'before' })).toContain(
      "snapshotting 'drive-scsi0' (ceph:vm-100-disk-0)",
    );
    expect(await bench.exit(TAKE, { snapname: 'second', vmstate: 1 })).toBe('OK');
    expect(await list()).toEqual([
      { name: 'first', description: 'before', snaptime: expect.any(Number), vmstate: 0 },
      { name: 'second', description: '', snaptime: expect.any(Number), vmstate: 1, parent: 'first' },
      expect.objectContaining({
        name: 'current',
        description: 'You are here!',
        running: 1,
        parent: 'second',
      }),
    ]);
    await bench.read(`PUT ${GUEST}/snapshot/first/config`, { description: 'after' });
    expect(await bench.read(`GET ${GUEST}/snapshot/first/config`)).toMatchObject({
      description: 'after\n',
      cores: 2,
    });
    expect(await bench.read(`GET ${GUEST}/config?snapshot=first`)).toMatchObject({ cores: 2 });
    expect(await bench.refusal(`GET ${GUEST}/config?snapshot=first&current=1`)).toContain(
      "cannot use 'snapshot' parameter with 'current'",
    );
    expect(await bench.exit(`DELETE ${GUEST}/snapshot/second`)).toBe('OK');
    expect(bench.world.volumes.has('ceph:vm-100-state-second')).toBe(false);
    expect((await list()).at(-1)).toMatchObject({ parent: 'first' });
  });

  it('bring back config and size of the disk, stopping what runs', async () => {
    await bench.exit(TAKE, { snapname: 'first' });
    await bench.exit(`PUT ${GUEST}/resize`, { disk: 'scsi0', size: '+8G' });
    await bench.read(`PUT ${GUEST}/config`, { name: 'other' });
    expect(await bench.exit(ROLL('first'))).toBe('OK');
    expect(await bench.config()).toMatchObject({ name: 'gitlab', scsi0: 'ceph:vm-100-disk-0,size=32G' });
    expect(bench.simulator.guest(100)!.status).toBe('stopped');
    expect(bench.world.volumes.get('ceph:vm-100-disk-0')!.sizeGiB).toBe(32);
    expect(await bench.exit(ROLL('first'), { start: 1 })).toBe('OK');
    expect(bench.simulator.guest(100)!.status).toBe('running');
  });

  it('lock the config and not the flock while they are taken', async () => {
    bench.simulator.hold('qemu.snapshot', 'task');
    const upid = await bench.read<string>(TAKE, { snapname: 'first' });
    await bench.simulator.reached('qemu.snapshot', 'task');
    expect(await bench.refusal(`PUT ${GUEST}/config`, { onboot: 1 })).toBe('VM is locked (snapshot)');
    expect(await bench.exit(TAKE, { snapname: 'second' })).toBe('VM is locked (snapshot)');
    bench.simulator.release('qemu.snapshot', 'task');
    expect((await bench.bench.follow(upid)).exit).toBe('OK');
  });

  it('are refused with the words of PVE', async () => {
    await bench.exit(TAKE, { snapname: 'first' });
    expect(await bench.exit(TAKE, { snapname: 'first' })).toBe("snapshot name 'first' already used");
    expect(await bench.refusal(TAKE, { snapname: 'current' })).toBe(
      "unable to use snapshot name 'current' (reserved name)",
    );
    expect(await bench.refusal(TAKE, { snapname: '1st' })).toContain('invalid configuration ID');
    expect(await bench.exit('POST /nodes/pve1/qemu/9000/snapshot', { snapname: 'first' })).toBe(
      "you can't take a snapshot if it's a template",
    );
    const gone = "snapshot 'gone' does not exist";
    expect(await bench.exit(ROLL('gone'))).toBe(gone);
    expect(await bench.exit(`DELETE ${GUEST}/snapshot/gone`)).toBe(gone);
    expect(await bench.refusal(`GET ${GUEST}/snapshot/gone/config`)).toBe(gone);
    expect(await bench.refusal(`POST ${GUEST}/clone`, { newid: 105, snapname: 'gone' })).toBe(gone);
    await bench.make(106, { scsi0: 'thick:1' });
    expect(await bench.exit('POST /nodes/pve1/qemu/106/snapshot', { snapname: 'first' })).toBe(
      'snapshot feature is not available',
    );
  });

  it('go back only to the newest one on ZFS', async () => {
    await bench.make(106, { scsi0: 'tank:1' });
    for (const snapname of ['first', 'second'])
      expect(await bench.exit('POST /nodes/pve1/qemu/106/snapshot', { snapname })).toBe('OK');
    expect(await bench.exit('POST /nodes/pve1/qemu/106/snapshot/first/rollback')).toBe(
      "can't rollback, 'first' is not most recent snapshot on 'vm-106-disk-0'",
    );
    expect(await bench.exit('POST /nodes/pve1/qemu/106/snapshot/second/rollback')).toBe('OK');
  });

  it('can be cloned: linked where the storage can, else in full', async () => {
    await bench.exit(TAKE, { snapname: 'first' });
    await bench.read(`PUT ${GUEST}/config`, { tags: 'new' });
    expect(await bench.exit(`POST ${GUEST}/clone`, { newid: 105, snapname: 'first', full: 0 })).toBe('OK');
    const clone = await bench.config(105);
    expect(clone['scsi0']).toBe('ceph:vm-100-disk-0/vm-105-disk-0,size=32G');
    expect(clone['tags']).toBeUndefined();
    await bench.make(106, { scsi0: 'tank:1' });
    await bench.exit('POST /nodes/pve1/qemu/106/snapshot', { snapname: 'first' });
    const linked = { newid: 107, snapname: 'first', full: 0 };
    expect(await bench.refusal('POST /nodes/pve1/qemu/106/clone', linked)).toBe(
      "Linked clone feature is not supported for 'tank:vm-106-disk-0' (scsi0)",
    );
  });
});
