import { expect } from 'vitest';
import { replayDossier, type DossierBench } from '../../support/dossier-table.js';

const GUEST = '/nodes/pve1/qemu/100';
const stopped = ({ simulator }: DossierBench) => simulator.foreign.setRunning(100, false);
const configured = (config: Record<string, string>) => ({
  given: ({ simulator }: DossierBench) => simulator.foreign.edit(100, config),
});
const put = (form: Record<string, string | number>) => ({ call: `PUT ${GUEST}/config`, form });
const create = (form: Record<string, string | number>) => ({
  call: 'POST /nodes/pve1/qemu',
  form: { vmid: 10_500, ...form },
});
const snapshot = (snapname: string) => ({ call: `POST ${GUEST}/snapshot`, form: { snapname } });
/** Starts guest 100 with an agent and asks until it answers. */
async function agentUp(bench: DossierBench): Promise<void> {
  bench.simulator.foreign.edit(100, { agent: '1' });
  bench.simulator.foreign.setRunning(100, false);
  await bench.task(`POST ${GUEST}/status/start`);
  for (;;) {
    const reply = await bench.send(`POST ${GUEST}/agent/ping`);
    if (reply.status === 200) return;
    expect(reply.reason).toBe('QEMU guest agent is not running');
  }
}

replayDossier('section 6: qemu', [
  {
    line: 168,
    says: 'create with disk, card, cloud-init drive, pool',
    send: create({
      name: 'made',
      memory: 1024,
      cores: 2,
      net0: 'virtio,bridge=vmbr0',
      scsi0: 'ceph:8',
      ide2: 'ceph:cloudinit',
      boot: 'order=scsi0',
      agent: 1,
      ostype: 'l26',
      tags: 'a;b',
      pool: 'prod',
    }),
    expect: {
      data: expect.stringMatching(/:qmcreate:10500:/),
      exit: 'OK',
      after: ({ simulator, world }) => {
        const { config } = simulator.guest(10_500)!;
        expect(config).toMatchObject({
          name: 'made',
          memory: '1024',
          cores: '2',
          scsi0: expect.stringMatching(/^ceph:vm-10500-disk-0,size=8G$/),
          ide2: expect.stringMatching(/^ceph:vm-10500-cloudinit,media=cdrom(,size=4M)?$/),
          net0: expect.stringMatching(/^virtio=BC:24:11(:[0-9A-F]{2}){3},bridge=vmbr0$/),
        });
        expect(config).not.toHaveProperty('lock');
        expect(world.pools.get('prod')!.members.has(10_500)).toBe(true);
      },
    },
  },
  {
    line: 168,
    says: 'create with start=1 starts it',
    send: create({ memory: 512, start: 1 }),
    expect: {
      exit: 'OK',
      after: async (bench) => {
        for (;;) {
          const list = await bench.data<{ type: string }[]>('GET /nodes/pve1/tasks');
          if (list.some(({ type }) => type === 'qmstart')) break;
        }
        expect(bench.simulator.guest(10_500)!.status).toBe('running');
      },
    },
  },
  {
    line: 168,
    says: '9.1: ha-managed on create',
    send: create({ 'ha-managed': 1 }),
    expect: { exit: 'OK' },
  },
  {
    line: 298,
    says: '8.4 does not know ha-managed on create',
    world: { version: '8.4' },
    send: create({ 'ha-managed': 1 }),
    expect: {
      errors: {
        'ha-managed': 'property is not defined in schema and the schema does not allow additional properties',
      },
    },
  },
  ...['net31', 'ipconfig31', 'scsi30', 'virtio15', 'sata5', 'ide3'].map((key) => ({
    line: 169,
    says: `${key} is the last of its kind`,
    given: stopped,
    send: put({
      [key]: key.startsWith('net') ? 'virtio,bridge=vmbr0' : key.startsWith('ip') ? 'ip=dhcp' : 'ceph:1',
    }),
    expect: { data: null },
  })),
  ...['net32', 'ipconfig32', 'scsi31', 'virtio16', 'sata6', 'ide4', 'unused256'].map((key) => ({
    line: 169,
    says: `${key} does not exist`,
    send: put({ [key]: 'x' }),
    expect: {
      errors: {
        [key]: 'property is not defined in schema and the schema does not allow additional properties',
      },
    },
  })),
  {
    line: 170,
    says: 'clone gives a UPID of the executing node',
    send: {
      call: 'POST /nodes/pve1/qemu/9000/clone',
      form: { newid: 10_500, name: 'x', description: 'd', target: 'pve2', bwlimit: 1000 },
      at: 2,
    },
    expect: {
      data: expect.stringMatching(/^UPID:pve1:/),
      exit: 'OK',
      after: ({ simulator }) =>
        expect(simulator.guest(10_500)!).toMatchObject({
          node: 'pve2',
          config: { name: 'x', description: 'd' },
        }),
    },
  },
  {
    line: 170,
    says: 'clone takes no cores',
    send: { call: 'POST /nodes/pve1/qemu/9000/clone', form: { newid: 10_500, cores: 2 } },
    expect: {
      errors: {
        cores: 'property is not defined in schema and the schema does not allow additional properties',
      },
    },
  },
  {
    line: 171,
    says: 'config PUT is synchronous and gives null',
    send: put({ onboot: 1 }),
    expect: { data: null },
  },
  {
    line: 171,
    says: 'config POST gives a UPID',
    send: { call: `POST ${GUEST}/config`, form: { onboot: 1 } },
    expect: { data: expect.stringMatching(/^UPID:pve1:.*:qmconfig:100:/), exit: 'OK' },
  },
  {
    line: 171,
    says: 'config POST gives null if it is done within background_delay',
    send: { call: `POST ${GUEST}/config`, form: { onboot: 1, background_delay: 30 } },
    expect: { data: null },
  },
  {
    line: 171,
    says: 'background_delay has at most 30 s',
    send: { call: `POST ${GUEST}/config`, form: { onboot: 1, background_delay: 31 } },
    expect: { errors: { background_delay: 'value must have a maximum value of 30' } },
  },
  {
    line: 172,
    says: 'a digest that is not that of the config',
    send: put({ onboot: 1, digest: 'a'.repeat(40) }),
    expect: { error: 'checksum mismatch (file change by other user?)' },
  },
  {
    line: 173,
    says: 'nothing to write',
    send: { call: `PUT ${GUEST}/config`, form: {} },
    expect: { error: 'no options specified' },
  },
  {
    line: 173,
    says: 'keys that cannot be changed on a running VM stay pending; config GET merges them',
    given: ({ data }) => data(put({ cores: 8 })),
    send: `GET ${GUEST}/config`,
    expect: {
      data: expect.objectContaining({
        cores: expect.toSatisfy((cores: unknown) => Number(cores) === 8),
        digest: expect.stringMatching(/^[0-9a-f]{40}$/),
      }),
      after: ({ simulator }) => expect(simulator.guest(100)!.config).toMatchObject({ cores: '2' }),
    },
  },
  {
    line: 174,
    says: 'current=1 gives the running one',
    given: ({ data }) => data(put({ cores: 8 })),
    send: `GET ${GUEST}/config?current=1`,
    expect: {
      data: expect.objectContaining({
        cores: expect.toSatisfy((cores: unknown) => Number(cores) === 2),
      }),
    },
  },
  {
    line: 174,
    says: 'cipassword is masked',
    given: ({ data }) => data(put({ cipassword: 'hunter2' })),
    send: `GET ${GUEST}/config`,
    expect: { data: expect.objectContaining({ cipassword: '**********' }) },
  },
  {
    line: 174,
    says: 'pending lists key, value and what is pending',
    given: ({ data }) => data(put({ cores: 8, delete: 'ostype' })),
    send: `GET ${GUEST}/pending`,
    expect: {
      data: expect.arrayContaining([
        {
          key: 'cores',
          value: expect.toSatisfy((cores: unknown) => Number(cores) === 2),
          pending: expect.toSatisfy((cores: unknown) => Number(cores) === 8),
        },
        { key: 'ostype', value: 'l26', delete: 1 },
      ]),
    },
  },
  {
    line: 172,
    says: 'revert drops what is pending',
    given: async ({ data }) => {
      await data(put({ cores: 8 }));
      await data(put({ revert: 'cores' }));
    },
    send: `GET ${GUEST}/config`,
    expect: {
      data: expect.objectContaining({
        cores: expect.toSatisfy((cores: unknown) => Number(cores) === 2),
      }),
    },
  },
  {
    line: 175,
    says: 'resize gives a UPID since 8.0',
    world: { version: '8.4' },
    send: { call: `PUT ${GUEST}/resize`, form: { disk: 'scsi0', size: '+5G' } },
    expect: {
      exit: 'OK',
      after: ({ simulator }) => expect(simulator.guest(100)!.config['scsi0']).toContain('size=37G'),
    },
  },
  {
    line: 175,
    says: 'shrinking',
    send: { call: `PUT ${GUEST}/resize`, form: { disk: 'scsi0', size: '1G' } },
    expect: { exit: 'shrinking disks is not supported' },
  },
  {
    line: 175,
    says: 'a disk that does not exist',
    send: { call: `PUT ${GUEST}/resize`, form: { disk: 'scsi3', size: '40G' } },
    expect: { exit: "disk 'scsi3' does not exist" },
  },
  {
    line: 175,
    says: 'the same size is no error',
    send: { call: `PUT ${GUEST}/resize`, form: { disk: 'scsi0', size: '32G' } },
    expect: { exit: 'OK' },
  },
  {
    line: 177,
    says: 'start of a running VM, in the task',
    send: `POST ${GUEST}/status/start`,
    expect: { exit: 'VM 100 already running' },
  },
  {
    line: 177,
    says: 'stop of a stopped VM is no error',
    given: stopped,
    send: `POST ${GUEST}/status/stop`,
    expect: { exit: 'OK' },
  },
  {
    line: 177,
    says: 'a guest that does not react to its shutdown',
    timeScale: 0.001,
    given: ({ context }) =>
      context.faults.add({
        id: 'deaf',
        match: { op: 'qemu.shutdown' },
        when: 'during',
        effect: 'task-error',
        value: 'VM quit/powerdown failed - got timeout',
      }),
    send: { call: `POST ${GUEST}/status/shutdown`, form: { timeout: 1 } },
    expect: { exit: 'VM quit/powerdown failed - got timeout' },
  },
  {
    line: 178,
    says: 'shutdown of a paused VM, at once',
    given: (bench) => bench.task(`POST ${GUEST}/status/suspend`),
    send: `POST ${GUEST}/status/shutdown`,
    expect: { error: 'VM is paused - cannot shutdown' },
  },
  ...['reset', 'reboot', 'suspend', 'resume'].map((verb) => ({
    line: 178,
    says: `${verb} of a stopped VM, at once`,
    given: stopped,
    send: `POST ${GUEST}/status/${verb}`,
    expect: { error: 'VM 100 not running' },
  })),
  {
    line: 178,
    says: 'stop takes overrule-shutdown since 8.2',
    world: { version: '8.4' },
    send: { call: `POST ${GUEST}/status/stop`, form: { 'overrule-shutdown': 1 } },
    expect: { exit: 'OK' },
  },
  {
    line: 179,
    says: 'ping of an agent that is up',
    given: agentUp,
    send: `POST ${GUEST}/agent/ping`,
    expect: { data: { result: {} } },
  },
  {
    line: 179,
    says: 'exec gives a pid, exec-status the result',
    given: agentUp,
    send: async (bench) => {
      const { pid } = await bench.data<{ pid: number }>({
        call: `POST ${GUEST}/agent/exec`,
        form: { command: ['echo', 'hello'] },
      });
      return `GET ${GUEST}/agent/exec-status?pid=${pid}`;
    },
    expect: { data: { exited: 1, exitcode: 0, 'out-data': 'hello\n' } },
  },
  {
    line: 180,
    says: 'the interfaces',
    given: agentUp,
    send: `GET ${GUEST}/agent/network-get-interfaces`,
    expect: {
      data: {
        result: expect.arrayContaining([
          expect.objectContaining({
            name: 'lo',
            'ip-addresses': expect.arrayContaining([
              { 'ip-address': '127.0.0.1', 'ip-address-type': 'ipv4', prefix: 8 },
            ]),
          }),
          expect.objectContaining({
            name: expect.any(String),
            'hardware-address': expect.stringMatching(/^bc:24:11/),
          }),
        ]),
      },
    },
  },
  {
    line: 180,
    says: 'no agent configured',
    send: `POST ${GUEST}/agent/ping`,
    expect: { error: 'No QEMU guest agent configured' },
  },
  {
    line: 180,
    says: 'the agent of a VM that is stopped',
    given: ({ simulator }) => {
      simulator.foreign.edit(100, { agent: '1' });
      simulator.foreign.setRunning(100, false);
    },
    send: `GET ${GUEST}/agent/network-get-interfaces`,
    expect: { error: 'VM 100 is not running' },
  },
  {
    line: 181,
    says: 'an agent that is not up yet',
    given: async (bench) => {
      bench.simulator.foreign.edit(100, { agent: '1' });
      bench.simulator.foreign.setRunning(100, false);
      await bench.task(`POST ${GUEST}/status/start`);
    },
    send: `GET ${GUEST}/agent/network-get-interfaces`,
    expect: { error: 'QEMU guest agent is not running' },
  },
  {
    line: 183,
    says: 'the list of snapshots has the entry current',
    given: (bench) => bench.task(snapshot('before')),
    send: `GET ${GUEST}/snapshot`,
    expect: {
      data: expect.arrayContaining([
        expect.objectContaining({ name: 'before', snaptime: expect.any(Number) }),
        expect.objectContaining({
          name: 'current',
          description: 'You are here!',
          digest: expect.stringMatching(/^[0-9a-f]{40}$/),
          running: 1,
          parent: 'before',
        }),
      ]),
    },
  },
  {
    line: 184,
    says: 'a snapshot name has at most 40 characters',
    send: snapshot('a'.repeat(41)),
    expect: { errors: { snapname: 'value may only be 40 characters long' } },
  },
  {
    line: 184,
    says: 'a snapshot name starts with a letter',
    send: snapshot('1st'),
    expect: { errors: { snapname: expect.stringMatching(/^invalid format - /) } },
  },
  {
    line: 184,
    says: 'a snapshot name that is used',
    given: (bench) => bench.task(snapshot('before')),
    send: snapshot('before'),
    expect: { exit: "snapshot name 'before' already used" },
  },
  {
    line: 184,
    says: 'a snapshot of a disk that has no such feature',
    world: {
      storages: [
        { id: 'ceph', type: 'rbd', shared: true, sizeGiB: 1000 },
        { id: 'raw', type: 'dir', shared: false, sizeGiB: 1000 },
      ],
    },
    ...configured({ scsi1: 'raw:100/vm-100-disk-1.raw,size=1G' }),
    send: snapshot('before'),
    expect: { exit: 'snapshot feature is not available' },
  },
  {
    line: 184,
    says: 'a snapshot of a template',
    send: { call: 'POST /nodes/pve1/qemu/9000/snapshot', form: { snapname: 'before' } },
    expect: { exit: "you can't take a snapshot if it's a template" },
  },
  {
    line: 184,
    says: 'the reserved name',
    send: snapshot('current'),
    expect: { error: "unable to use snapshot name 'current' (reserved name)" },
  },
  {
    line: 185,
    says: 'rollback to a snapshot that does not exist',
    send: `POST ${GUEST}/snapshot/never/rollback`,
    expect: { exit: "snapshot 'never' does not exist" },
  },
  {
    line: 185,
    says: 'delete of a snapshot that does not exist',
    send: `DELETE ${GUEST}/snapshot/never`,
    expect: { exit: "snapshot 'never' does not exist" },
  },
  {
    line: 185,
    says: 'rollback stops a running VM first',
    given: (bench) => bench.task(snapshot('before')),
    send: `POST ${GUEST}/snapshot/before/rollback`,
    expect: {
      exit: 'OK',
      after: ({ simulator }) => expect(simulator.guest(100)!.status).toBe('stopped'),
    },
  },
  {
    line: 186,
    says: 'destroy of a running VM, at once',
    send: `DELETE ${GUEST}`,
    expect: { error: 'VM 100 is running - destroy failed' },
  },
  {
    line: 186,
    says: 'destroy of a VM that HA manages, at once',
    world: { ha: ['vm:100'] },
    given: (bench) => {
      bench.world.ha.resources.get('vm:100')!.state = 'stopped';
      stopped(bench);
    },
    send: `DELETE ${GUEST}`,
    expect: { error: 'unable to remove VM 100 - used in HA resources and purge parameter not set.' },
  },
  {
    line: 187,
    says: 'destroy of a protected VM, at once',
    given: ({ simulator }) => {
      simulator.foreign.edit(100, { protection: '1' });
      simulator.foreign.setRunning(100, false);
    },
    send: `DELETE ${GUEST}`,
    expect: { error: "can't remove VM 100 - protection mode enabled" },
  },
  {
    line: 187,
    says: 'destroy of a VM that does not exist, at once',
    send: 'DELETE /nodes/pve1/qemu/10500',
    expect: { error: "Configuration file 'nodes/pve1/qemu-server/10500.conf' does not exist" },
  },
  {
    line: 187,
    says: 'a disk that cannot be removed is only a warning, and stays as an orphan',
    given: (bench) => {
      stopped(bench);
      bench.context.faults.add({
        id: 'busy',
        match: { op: 'qemu.destroy' },
        when: 'during',
        effect: 'hold-lock',
        value: 60_000,
      });
    },
    send: `DELETE ${GUEST}`,
    expect: {
      exit: 'WARNINGS: 1',
      after: ({ simulator, world }) => {
        expect(simulator.guest(100)).toBeUndefined();
        expect([...world.volumes.values()].map(({ volid }) => volid)).toContain('ceph:vm-100-disk-0');
      },
    },
  },
  {
    line: 187,
    says: '8.4: the same',
    world: { version: '8.4' },
    given: (bench) => {
      stopped(bench);
      bench.context.faults.add({
        id: 'busy',
        match: { op: 'qemu.destroy' },
        when: 'during',
        effect: 'hold-lock',
        value: 60_000,
      });
    },
    send: `DELETE ${GUEST}`,
    expect: { exit: /^(WARNINGS: 1|OK)$/ },
  },
  {
    line: 188,
    says: 'purge cleans HA too',
    world: { ha: ['vm:100'] },
    given: (bench) => {
      bench.world.ha.resources.get('vm:100')!.state = 'stopped';
      stopped(bench);
    },
    send: `DELETE ${GUEST}?purge=1`,
    expect: {
      exit: 'OK',
      after: ({ world }) => expect(world.ha.resources.has('vm:100')).toBe(false),
    },
  },
  {
    line: 188,
    says: 'ACLs of the guest are always removed',
    given: async (bench) => {
      stopped(bench);
      await bench.data({ call: 'POST /access/users', form: { userid: 'carol@pve' } });
      await bench.data({
        call: 'PUT /access/acl',
        form: { path: '/vms/100', roles: 'PVEVMUser', users: 'carol@pve' },
      });
    },
    send: `DELETE ${GUEST}`,
    expect: {
      exit: 'OK',
      after: async ({ data }) =>
        expect(await data('GET /access/acl')).not.toContainEqual(
          expect.objectContaining({ path: '/vms/100' }),
        ),
    },
  },
  {
    line: 188,
    says: 'the guest leaves its pool',
    given: stopped,
    send: `DELETE ${GUEST}`,
    expect: {
      exit: 'OK',
      after: ({ world }) => expect(world.pools.get('prod')!.members.has(100)).toBe(false),
    },
  },
  {
    line: 192,
    says: 'PUT cloudinit is synchronous',
    given: ({ data }) => data({ call: 'POST /nodes/pve1/qemu/9000/clone', form: { newid: 10_500 } }),
    send: async (bench) => {
      for (;;) {
        const [first] = await bench.data<{ status: string }[]>('GET /nodes/pve1/tasks');
        if (first) return 'PUT /nodes/pve1/qemu/10500/cloudinit';
      }
    },
    expect: { data: null },
  },
  {
    line: 192,
    says: 'dump of the user data',
    given: (bench) => bench.clone(),
    send: 'GET /nodes/pve1/qemu/10500/cloudinit/dump?type=user',
    expect: { data: expect.stringMatching(/^#cloud-config\n/) },
  },
  {
    line: 192,
    says: 'dump of the network data',
    given: (bench) => bench.clone(),
    send: 'GET /nodes/pve1/qemu/10500/cloudinit/dump?type=network',
    expect: { data: expect.stringMatching(/^version: 1\n/) },
  },
  {
    line: 192,
    says: 'template makes base images',
    given: stopped,
    send: `POST ${GUEST}/template`,
    expect: {
      exit: 'OK',
      after: ({ simulator }) =>
        expect(simulator.guest(100)!.config).toMatchObject({
          template: '1',
          scsi0: expect.stringMatching(/^ceph:base-100-disk-0,/),
        }),
    },
  },
  {
    line: 192,
    says: 'unlink keeps the disk as unused',
    given: stopped,
    send: { call: `PUT ${GUEST}/unlink`, form: { idlist: 'scsi0' } },
    expect: {
      data: null,
      after: ({ simulator }) => {
        expect(simulator.guest(100)!.config).toMatchObject({ unused0: 'ceph:vm-100-disk-0' });
        expect(simulator.guest(100)!.config).not.toHaveProperty('scsi0');
      },
    },
  },
  {
    line: 303,
    says: 'memory is a string since 8.1',
    send: `GET ${GUEST}/config`,
    expect: { data: expect.objectContaining({ memory: '2048' }) },
  },
  {
    line: 303,
    says: '8.4 too',
    world: { version: '8.4' },
    send: `GET ${GUEST}/config`,
    expect: { data: expect.objectContaining({ memory: '2048' }) },
  },
  {
    line: 289,
    says: 'exec takes a list since 8',
    world: { version: '8.4' },
    given: agentUp,
    send: { call: `POST ${GUEST}/agent/exec`, form: { command: ['echo', 'a', 'b'] } },
    expect: { data: { pid: expect.any(Number) } },
  },
]);
