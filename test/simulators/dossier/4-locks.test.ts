import { expect } from 'vitest';
import { replayDossier, type DossierBench } from '../../support/dossier-table.js';

const GUEST = '/nodes/pve1/qemu/100';
const locked = (lock: string) => ({
  given: ({ simulator }: DossierBench) => simulator.foreign.edit(100, { lock }),
});
const clone = (source: number, form: Record<string, string | number>) => ({
  call: `POST /nodes/pve1/qemu/${source}/clone`,
  form: { newid: 10_500, ...form },
});
/** Somebody else holds the lock of the operation's storage for this long. */
const holdLock = (op: string, ms: number) => (bench: DossierBench) =>
  bench.context.faults.add({ id: 'busy', match: { op }, when: 'during', effect: 'hold-lock', value: ms });
/** Template 9001 on the local storage of pve1. */
const local = {
  templates: [
    { vmid: 9000, node: 'pve1', name: 'shared' },
    { vmid: 9001, node: 'pve1', name: 'local', storage: 'local-lvm' },
  ],
};

replayDossier('section 4: locks, clones, storage', [
  {
    line: 95,
    says: 'config PUT of a locked guest, at once',
    ...locked('clone'),
    send: { call: `PUT ${GUEST}/config`, form: { onboot: 1 } },
    expect: { error: 'VM is locked (clone)' },
  },
  {
    line: 95,
    says: 'config POST of a locked guest, at once',
    ...locked('backup'),
    send: { call: `POST ${GUEST}/config`, form: { onboot: 1 } },
    expect: { error: 'VM is locked (backup)' },
  },
  {
    line: 95,
    says: 'clone of a locked guest, at once',
    ...locked('migrate'),
    send: clone(100, {}),
    expect: { error: 'VM is locked (migrate)' },
  },
  {
    line: 96,
    says: 'start of a locked guest, in the task',
    given: ({ simulator }) => {
      simulator.foreign.setRunning(100, false);
      simulator.foreign.edit(100, { lock: 'backup' });
    },
    send: `POST ${GUEST}/status/start`,
    expect: { exit: 'VM is locked (backup)' },
  },
  {
    line: 96,
    says: 'stop of a locked guest, in the task',
    ...locked('backup'),
    send: `POST ${GUEST}/status/stop`,
    expect: { exit: 'VM is locked (backup)' },
  },
  {
    line: 96,
    says: 'snapshot of a locked guest, in the task',
    ...locked('snapshot'),
    send: { call: `POST ${GUEST}/snapshot`, form: { snapname: 'before' } },
    expect: { exit: 'VM is locked (snapshot)' },
  },
  {
    line: 96,
    says: 'destroy of a locked guest, in the task',
    given: ({ simulator }) => {
      simulator.foreign.setRunning(100, false);
      simulator.foreign.edit(100, { lock: 'backup' });
    },
    send: `DELETE ${GUEST}`,
    expect: { exit: 'VM is locked (backup)' },
  },
  {
    line: 97,
    says: 'status/current needs no lock and shows it',
    ...locked('backup'),
    send: `GET ${GUEST}/status/current`,
    expect: { data: expect.objectContaining({ lock: 'backup' }) },
  },
  {
    line: 97,
    says: 'config GET needs no lock and shows it',
    ...locked('backup'),
    send: `GET ${GUEST}/config`,
    expect: { data: expect.objectContaining({ lock: 'backup' }) },
  },
  {
    line: 97,
    says: 'the list of a node shows the lock',
    ...locked('backup'),
    send: 'GET /nodes/pve1/qemu',
    expect: { data: expect.arrayContaining([expect.objectContaining({ vmid: 100, lock: 'backup' })]) },
  },
  {
    line: 97,
    says: 'cluster/resources shows the lock at once',
    ...locked('backup'),
    send: 'GET /cluster/resources?type=vm',
    expect: { data: expect.arrayContaining([expect.objectContaining({ vmid: 100, lock: 'backup' })]) },
  },
  {
    line: 98,
    says: 'a root ticket unlocks with delete=lock and skiplock=1',
    ...locked('backup'),
    send: { call: `PUT ${GUEST}/config`, form: { delete: 'lock', skiplock: 1 }, as: 'ticket' },
    expect: {
      data: null,
      after: ({ simulator }) => expect(simulator.guest(100)!.config).not.toHaveProperty('lock'),
    },
  },
  {
    line: 98,
    says: 'no API way to unlock a container, for a root ticket either',
    given: ({ simulator }) => simulator.foreign.edit(101, { lock: 'disk' }),
    send: { call: 'PUT /nodes/pve2/lxc/101/config', form: { delete: 'lock' }, as: 'ticket' },
    expect: { error: 'CT is locked (disk)' },
  },
  {
    line: 101,
    says: 'config PUT waits 10 s for the flock',
    given: async ({ simulator, data }) => {
      simulator.hold('qemu.clone', 'task');
      await data(clone(100, { newid: 10_501 }));
      await simulator.reached('qemu.clone', 'task');
    },
    send: { call: `PUT ${GUEST}/config`, form: { onboot: 1 } },
    expect: {
      error: "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout",
      after: ({ simulator }) => simulator.release('qemu.clone', 'task'),
    },
  },
  {
    line: 101,
    says: 'a stop waits too, and its log says so',
    given: async ({ simulator, data }) => {
      simulator.hold('qemu.clone', 'task');
      await data(clone(100, { newid: 10_501 }));
      await simulator.reached('qemu.clone', 'task');
    },
    send: `POST ${GUEST}/status/stop`,
    expect: {
      exit: "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout",
      log: ['trying to acquire lock...'],
      after: ({ simulator }) => simulator.release('qemu.clone', 'task'),
    },
  },
  {
    line: 105,
    says: 'clones of a template run in parallel',
    given: async ({ simulator, data }) => {
      simulator.hold('qemu.clone', 'task');
      await data(clone(9000, { newid: 10_501 }));
      await simulator.reached('qemu.clone', 'task');
    },
    send: clone(9000, {}),
    expect: {
      after: async ({ simulator }) => {
        await simulator.reached('qemu.clone', 'task', 2);
        simulator.release('qemu.clone', 'task');
      },
    },
  },
  {
    line: 106,
    says: 'clones of a running VM serialise, the second failing after 1 s',
    timeScale: 0.02,
    given: async ({ simulator, data }) => {
      simulator.hold('qemu.clone', 'task');
      await data(clone(100, { newid: 10_501 }));
      await simulator.reached('qemu.clone', 'task');
    },
    send: clone(100, {}),
    expect: {
      exit: "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout",
      after: ({ simulator }) => simulator.release('qemu.clone', 'task'),
    },
  },
  {
    line: 106,
    says: 'a config PUT on a template that is being cloned times out',
    given: async ({ simulator, data }) => {
      simulator.hold('qemu.clone', 'task');
      await data(clone(9000, { newid: 10_501 }));
      await simulator.reached('qemu.clone', 'task');
    },
    send: { call: 'PUT /nodes/pve1/qemu/9000/config', form: { onboot: 1 } },
    expect: {
      error: "can't lock file '/var/lock/qemu-server/lock-9000.conf' - got timeout",
      after: ({ simulator }) => simulator.release('qemu.clone', 'task'),
    },
  },
  {
    line: 107,
    says: 'a clone locks its target with clone and its source not at all',
    given: ({ simulator }) => simulator.hold('qemu.clone', 'task'),
    send: clone(9000, {}),
    expect: {
      after: async ({ simulator }) => {
        await simulator.reached('qemu.clone', 'task');
        expect(simulator.guest(10_500)!.config).toMatchObject({ lock: 'clone' });
        expect(simulator.guest(9000)!.config).not.toHaveProperty('lock');
        simulator.release('qemu.clone', 'task');
      },
    },
  },
  {
    line: 110,
    says: 'there is no task queue: any number of tasks runs at once',
    given: async ({ simulator, data }) => {
      simulator.hold('qemu.clone', 'task-start');
      for (let id = 10_501; id <= 10_512; id += 1) await data(clone(9000, { newid: id }));
    },
    send: clone(9000, {}),
    expect: {
      after: async ({ simulator }) => {
        await simulator.reached('qemu.clone', 'task-start', 13);
        simulator.release('qemu.clone', 'task-start');
      },
    },
  },
  {
    line: 113,
    says: 'a local storage is locked by a flock',
    world: local,
    given: holdLock('qemu.clone', 60_000),
    send: clone(9001, {}),
    expect: {
      exit: "clone failed: can't lock file '/var/lock/pve-manager/pve-storage-local-lvm' - got timeout",
    },
  },
  {
    line: 113,
    says: 'a shared storage is locked in the whole cluster',
    given: holdLock('qemu.clone', 40_000),
    send: clone(9000, {}),
    expect: {
      exit: "clone failed: cfs-lock 'storage-ceph' error: got lock request timeout",
      after: ({ simulator }) => expect(simulator.guest(10_500)).toBeUndefined(),
    },
  },
  {
    line: 118,
    says: 'one lock per disk and one for the cloud-init drive, which is never copied',
    send: clone(9000, {}),
    expect: {
      exit: 'OK',
      log: [
        'create full clone of drive ide2 (ceph:vm-9000-cloudinit)',
        'create linked clone of drive scsi0 (ceph:base-9000-disk-0)',
      ],
    },
  },
  {
    line: 120,
    says: 'the pool needs file-user_cfg at the end; on its timeout everything is rolled back',
    given: ({ context }) =>
      context.faults.add({
        id: 'users',
        match: { op: 'qemu.clone' },
        effect: 'act',
        value: { do: 'hold-cluster-lock', lock: 'file-user_cfg', forMs: 50_000 },
      }),
    send: clone(9000, { pool: 'hatchery-demo' }),
    expect: {
      exit: "clone failed: can't add VM 10500 to pool 'hatchery-demo': cfs-lock 'file-user_cfg' error: got lock request timeout",
      after: ({ simulator }) => expect(simulator.guest(10_500)).toBeUndefined(),
    },
  },
  {
    line: 122,
    says: 'on failure a clone frees its new volumes and removes its config',
    given: holdLock('qemu.clone', 40_000),
    send: clone(9000, {}),
    expect: {
      exit: /^clone failed: /,
      after: ({ world }) =>
        expect([...world.volumes.values()].filter(({ vmid }) => vmid === 10_500)).toEqual([]),
    },
  },
  {
    line: 122,
    says: 'a clone that is killed',
    given: ({ simulator }) => simulator.hold('qemu.clone', 'task'),
    send: clone(9000, {}),
    expect: {
      after: async (bench, reply) => {
        const upid = String(reply.json.data);
        await bench.simulator.reached('qemu.clone', 'task');
        await bench.data(`DELETE /nodes/pve1/tasks/${encodeURIComponent(upid)}`);
        expect((await bench.follow(upid)).exit).toBe('clone failed: interrupted by signal');
        bench.simulator.release('qemu.clone', 'task');
      },
    },
  },
  {
    line: 124,
    says: 'a template is cloned linked by default',
    send: clone(9000, {}),
    expect: {
      exit: 'OK',
      after: ({ simulator }) =>
        expect(simulator.guest(10_500)!.config['scsi0']).toMatch(
          /^ceph:base-9000-disk-0\/vm-10500-disk-0(,|$)/,
        ),
    },
  },
  {
    line: 124,
    says: 'a guest that is no template is always cloned in full',
    send: clone(100, {}),
    expect: {
      exit: 'OK',
      log: [/^create full clone of drive scsi0/],
      after: ({ simulator }) =>
        expect(simulator.guest(10_500)!.config['scsi0']).toMatch(/^ceph:vm-10500-disk-0(,|$)/),
    },
  },
  {
    line: 125,
    says: 'lvm-thin shows a plain volume id, the parent is not recorded',
    world: local,
    send: clone(9001, {}),
    expect: {
      exit: 'OK',
      after: ({ simulator }) =>
        expect(simulator.guest(10_500)!.config['scsi0']).toMatch(/^local-lvm:vm-10500-disk-0(,|$)/),
    },
  },
  {
    line: 125,
    says: 'the volume ids of nfs name the folder and the base image',
    world: {
      storages: [{ id: 'nas', type: 'nfs', shared: true, sizeGiB: 1000 }],
      templates: [{ vmid: 9000, node: 'pve1', name: 't', storage: 'nas' }],
    },
    send: clone(9000, {}),
    expect: {
      exit: 'OK',
      after: ({ simulator }) =>
        expect(simulator.guest(10_500)!.config['scsi0']).toMatch(
          /^nas:9000\/base-9000-disk-0\.qcow2\/10500\/vm-10500-disk-0\.qcow2(,|$)/,
        ),
    },
  },
  {
    line: 128,
    says: 'storage= for a linked clone',
    send: clone(9000, { storage: 'ceph' }),
    expect: { error: "parameter 'storage' not allowed for linked clones" },
  },
  {
    line: 128,
    says: 'format= for a linked clone',
    send: clone(9000, { format: 'raw' }),
    expect: { error: "parameter 'format' not allowed for linked clones" },
  },
  {
    line: 128,
    says: 'a local template to another node',
    world: local,
    send: clone(9001, { target: 'pve2' }),
    expect: { error: "can't clone VM to node 'pve2' (VM uses local storage)" },
  },
  {
    line: 129,
    says: 'to another node and a storage that is not shared',
    send: clone(9000, { target: 'pve2', full: 1, storage: 'local-lvm' }),
    expect: { error: "can't clone to non-shared storage 'local-lvm'" },
  },
  {
    line: 129,
    says: 'a snapshot that does not exist',
    send: clone(9000, { snapname: 'before' }),
    expect: { error: "snapshot 'before' does not exist" },
  },
  {
    line: 130,
    says: 'a storage of the wrong content',
    world: {
      storages: [
        { id: 'ceph', type: 'rbd', shared: true, sizeGiB: 1000 },
        { id: 'isos', type: 'nfs', shared: true, sizeGiB: 1000, content: ['iso'] },
      ],
    },
    send: clone(9000, { full: 1, storage: 'isos' }),
    expect: { errors: { storage: "storage 'isos' does not support vm images" } },
  },
  {
    line: 131,
    says: 'the call must go to the node that owns the source',
    send: { call: 'POST /nodes/pve2/qemu/9000/clone', form: { newid: 10_500 } },
    expect: { error: "Configuration file 'nodes/pve2/qemu-server/9000.conf' does not exist" },
  },
  {
    line: 131,
    says: 'target moves the finished config',
    send: clone(9000, { target: 'pve3' }),
    expect: {
      exit: 'OK',
      after: ({ simulator }) => expect(simulator.guest(10_500)!.node).toBe('pve3'),
    },
  },
  {
    line: 132,
    says: 'new MAC, new smbios uuid, new vmgenid',
    send: clone(9000, {}),
    expect: {
      exit: 'OK',
      after: ({ simulator }) => {
        const [source, made] = [simulator.guest(9000)!.config, simulator.guest(10_500)!.config];
        for (const key of ['net0', 'smbios1', 'vmgenid']) expect(made[key]).not.toBe(source[key]);
        expect(made['net0']).toMatch(/virtio=BC:24:11(:[0-9A-F]{2}){3},bridge=vmbr0/);
      },
    },
  },
  {
    line: 132,
    says: 'the default name',
    send: clone(9000, {}),
    expect: {
      exit: 'OK',
      after: ({ simulator }) =>
        expect(simulator.guest(10_500)!.config).toMatchObject({ name: 'Copy-of-VM-debian-12-xfce' }),
    },
  },
  {
    line: 132,
    says: 'tags and onboot are copied; description, unused disks and snapshots are not',
    given: ({ simulator }) =>
      simulator.foreign.edit(9000, {
        tags: 'gold',
        onboot: '1',
        description: 'the template',
        unused0: 'ceph:vm-9000-disk-9',
      }),
    send: clone(9000, {}),
    expect: {
      exit: 'OK',
      after: ({ simulator }) => {
        const { config } = simulator.guest(10_500)!;
        expect(config).toMatchObject({ tags: 'gold', onboot: '1' });
        expect(config).not.toHaveProperty('unused0');
        expect(config).not.toHaveProperty('template');
      },
    },
  },
  {
    line: 133,
    says: 'a template in use is not destroyed',
    given: (bench) => bench.clone(),
    send: 'DELETE /nodes/pve1/qemu/9000',
    expect: {
      exit: "base volume 'ceph:base-9000-disk-0' is still in use by linked cloned",
      after: ({ simulator }) => expect(simulator.guest(9000)).toBeDefined(),
    },
  },
  {
    line: 133,
    says: 'lvm-thin does not block it, its clones survive',
    world: local,
    given: (bench) => bench.task(clone(9001, {})),
    send: 'DELETE /nodes/pve1/qemu/9001',
    expect: {
      exit: 'OK',
      after: ({ simulator }) => expect(simulator.guest(10_500)).toBeDefined(),
    },
  },
  {
    line: 133,
    says: 'a VM with snapshots is made no template',
    given: async (bench) => {
      await bench.task({ call: `POST ${GUEST}/snapshot`, form: { snapname: 'before' } });
      bench.simulator.foreign.setRunning(100, false);
    },
    send: `POST ${GUEST}/template`,
    expect: { error: 'unable to create template, because VM contains snapshots' },
  },
  {
    line: 134,
    says: 'a template is made no template',
    send: 'POST /nodes/pve1/qemu/9000/template',
    expect: { error: "you can't convert a template to a template" },
  },
  {
    line: 134,
    says: 'a running VM is made no template',
    send: `POST ${GUEST}/template`,
    expect: { error: "you can't convert a VM to template if VM is running" },
  },
  {
    line: 134,
    says: 'a template is not started',
    send: 'POST /nodes/pve1/qemu/9000/status/start',
    expect: { exit: "you can't start a vm if it's a template" },
  },
]);
