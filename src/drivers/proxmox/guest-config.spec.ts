import { describe, expect, it } from 'vitest';
import { describeWithMark, type Mark } from '../../core/mark.js';
import type { GuestSettings } from '../../ports/hypervisor.js';
import { drivesOf, macOf, ownershipOf, settingsChange } from './guest-config.js';
import { vmConfig, type VmConfig } from './wire.js';

const mark: Mark = {
  deployment: '0190aaaa-0000-7000-8000-000000000001',
  machine: '0190aaaa-0000-7000-8000-000000000002',
  run: '0190aaaa-0000-7000-8000-000000000003',
  step: 'clone-template',
  vmid: 10_001,
  attempt: 1,
};

function aConfig(over: Record<string, unknown> = {}): VmConfig {
  return vmConfig.parse({
    digest: 'd1',
    name: 'vm-ada',
    description: `${describeWithMark('Machine of Ada', mark)}\n`,
    cores: '2',
    memory: '2048',
    net0: 'virtio=02:00:00:AA:BB:CC,bridge=vmbr0,firewall=1,tag=20',
    ciuser: 'ada',
    sshkeys: encodeURIComponent('ssh-ed25519 AAAA+/ ada@home'),
    ipconfig0: 'ip=dhcp',
    agent: 'enabled=1,fstrim_cloned_disks=1',
    scsi0: 'ceph:base-9000-disk-0/vm-10001-disk-0,discard=on,size=8G',
    ide2: 'ceph:vm-10001-cloudinit,media=cdrom',
    ide3: 'local:iso/debian.iso,media=cdrom,size=600M',
    ...over,
  });
}

const settings: GuestSettings = {
  cores: 2,
  memoryMiB: 2048,
  bridge: 'vmbr0',
  vlan: 20,
  mac: '02:00:00:aa:bb:cc',
  ciUser: 'ada',
  ciPassword: undefined,
  sshKeys: ['ssh-ed25519 AAAA+/ ada@home'],
};

describe('what a config write changes', () => {
  it('is nothing when everything is already so, however the API types and orders it', () => {
    expect(settingsChange(aConfig(), settings)).toEqual({ set: {}, remove: [] });
  });

  it('is exactly what differs', () => {
    const { set, remove } = settingsChange(aConfig(), {
      ...settings,
      cores: 4,
      memoryMiB: 4096,
      ciUser: 'bob',
    });
    expect(set).toEqual({ cores: 4, memory: 4096, ciuser: 'bob' });
    expect(remove).toEqual([]);
  });

  it('puts our MAC, bridge and tag into the device and leaves the rest of it', () => {
    const { set } = settingsChange(
      aConfig({ net0: 'e1000=BC:24:11:00:00:01,bridge=vmbr9,firewall=1,mtu=1400' }),
      settings,
    );
    expect(set['net0']).toBe('virtio=02:00:00:AA:BB:CC,bridge=vmbr0,tag=20,firewall=1,mtu=1400');
  });

  it('takes a tag away that is not wanted', () => {
    const { set } = settingsChange(aConfig(), { ...settings, vlan: undefined });
    expect(set['net0']).toBe('virtio=02:00:00:AA:BB:CC,bridge=vmbr0,firewall=1');
  });

  it('encodes SSH keys once by itself, with %20 and %0A and no plus sign for a space', () => {
    const { set } = settingsChange(aConfig(), {
      ...settings,
      sshKeys: ['ssh-ed25519 AAAA+/ é@x', 'ssh-rsa BBBB'],
    });
    expect(set['sshkeys']).toBe('ssh-ed25519%20AAAA%2B%2F%20%C3%A9%40x%0Assh-rsa%20BBBB');
  });

  it('removes the keys that the template brought along when nobody gave any', () => {
    expect(settingsChange(aConfig(), { ...settings, sshKeys: [] })).toEqual({ set: {}, remove: ['sshkeys'] });
  });

  it('writes a password always, because it cannot be compared', () => {
    expect(
      settingsChange(aConfig({ cipassword: '**********' }), { ...settings, ciPassword: 'p' }).set,
    ).toEqual({
      cipassword: 'p',
    });
  });

  it('makes one socket of several, and lowers a balloon that would be above the memory', () => {
    expect(settingsChange(aConfig({ sockets: 2, balloon: 4096 }), settings).set).toEqual({
      sockets: 1,
      balloon: 2048,
    });
  });
});

describe('whose guest a config is', () => {
  const identity = { deployment: mark.deployment, machine: mark.machine, vmid: mark.vmid };
  it('is ours only with our mark for this machine under this VMID', () => {
    expect(ownershipOf(aConfig(), identity)).toEqual({ owner: 'ours', mark });
  });

  it.each([
    ['another deployment', { ...mark, deployment: '0190bbbb-0000-7000-8000-000000000001' }],
    ['another machine', { ...mark, machine: '0190bbbb-0000-7000-8000-000000000002' }],
    ['another VMID, because somebody cloned our guest', { ...mark, vmid: 10_002 }],
  ])('is foreign with the mark of %s', (_, other) => {
    expect(ownershipOf(aConfig({ description: describeWithMark('', other) }), identity).owner).toBe(
      'foreign',
    );
  });

  it('is foreign without a mark, also when it is locked for a backup', () => {
    expect(ownershipOf(aConfig({ description: undefined }), identity).owner).toBe('foreign');
    expect(ownershipOf(aConfig({ description: 'hello', lock: 'backup' }), identity).owner).toBe('foreign');
  });

  it('cannot be told while a clone has only its temporary config, or a destroy has only its lock left', () => {
    const temporary = vmConfig.parse({ digest: 'd', description: 'qmclone temporary file\n', lock: 'clone' });
    expect(ownershipOf(temporary, identity).owner).toBe('unknown');
    expect(ownershipOf(vmConfig.parse({ digest: 'd', lock: 'destroyed' }), identity).owner).toBe('unknown');
  });
});

describe('devices', () => {
  it('are drives only when they own a volume', () => {
    expect([...drivesOf(aConfig())]).toEqual([
      [
        'scsi0',
        { volume: 'ceph:base-9000-disk-0/vm-10001-disk-0', storage: 'ceph', sizeGiB: 8, isCloudInit: false },
      ],
      ['ide2', { volume: 'ceph:vm-10001-cloudinit', storage: 'ceph', sizeGiB: undefined, isCloudInit: true }],
    ]);
  });

  it('show their MAC in both notations', () => {
    expect(macOf('virtio=BC:24:11:AA:00:01,bridge=vmbr0')).toBe('bc:24:11:aa:00:01');
    expect(macOf('model=virtio,macaddr=BC:24:11:AA:00:01')).toBe('bc:24:11:aa:00:01');
    expect(macOf(undefined)).toBeUndefined();
  });
});
