import { expect } from 'vitest';
import { replayDossier, type DossierBench } from '../../support/dossier-table.js';

const GUEST = '/nodes/pve1/qemu/100';
const stopped = ({ simulator }: DossierBench) => simulator.foreign.setRunning(100, false);
const put = (form: Record<string, string | number>) => ({ call: `PUT ${GUEST}/config`, form });

replayDossier('section 6: qemu', [
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
    says: 'stop takes overrule-shutdown since 8.2',
    world: { version: '8.4' },
    send: { call: `POST ${GUEST}/status/stop`, form: { 'overrule-shutdown': 1 } },
    expect: { exit: 'OK' },
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
    timeScale: 0.01,
    given: async (bench) => {
      bench.simulator.foreign.edit(100, { agent: '1' });
      bench.simulator.foreign.setRunning(100, false);
      await bench.task(`POST ${GUEST}/status/start`);
    },
    send: `GET ${GUEST}/agent/network-get-interfaces`,
    expect: { error: 'QEMU guest agent is not running' },
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
    timeScale: 0.01,
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
    timeScale: 0.01,
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
    says: 'the guest leaves its pool',
    given: stopped,
    send: `DELETE ${GUEST}`,
    expect: {
      exit: 'OK',
      after: ({ world }) => expect(world.pools.get('prod')!.members.has(100)).toBe(false),
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
]);
