import { describe, expect, it } from 'vitest';
import { containerChange, foreignMounts, volumesOf } from './container-config.js';
import type { ContainerConfig } from './wire.js';

const settings = {
  cores: 4,
  memoryMiB: 12_288,
  swapMiB: 512,
  nesting: true,
  bridge: 'vmbr0',
  vlan: undefined,
  mac: '02:00:00:00:00:0a',
};
const NET = 'name=eth0,bridge=vmbr0,hwaddr=02:00:00:00:00:0A,ip=dhcp,type=veth';
const config = (over: object = {}): ContainerConfig => ({
  digest: 'd',
  template: false,
  protection: false,
  unprivileged: true,
  cores: 4,
  memory: 12_288,
  swap: 512,
  net0: NET,
  features: 'nesting=1',
  rootfs: 'ceph:vm-105-disk-0,size=50G',
  ...over,
});

describe('what a container is given', () => {
  it('is nothing when it has everything', () => {
    expect(containerChange(config(), settings)).toEqual({});
  });

  it('is what differs, and what else the template says of its network card stays', () => {
    const cloned = config({
      cores: undefined,
      memory: 512,
      swap: 0,
      net0: 'name=eth0,bridge=vmbr9,firewall=1,hwaddr=BC:24:11:00:00:01,ip=10.0.0.5/24,gw=10.0.0.1,type=veth',
      features: 'fuse=1,nesting=0',
    });
    expect(containerChange(cloned, { ...settings, vlan: 20 })).toEqual({
      cores: 4,
      memory: 12_288,
      swap: 512,
      net0: `${NET},tag=20,firewall=1`,
      features: 'fuse=1,nesting=1',
    });
  });
});

it('tells the volumes of a container from what is mounted into it from its node', () => {
  const mounted = config({ mp0: '/srv/home,mp=/home', mp1: 'ceph:vm-105-disk-1,mp=/data,size=8G' });
  expect([...volumesOf(mounted)]).toEqual([
    ['rootfs', { volume: 'ceph:vm-105-disk-0', storage: 'ceph', sizeGiB: 50 }],
    ['mp1', { volume: 'ceph:vm-105-disk-1', storage: 'ceph', sizeGiB: 8 }],
  ]);
  expect(foreignMounts(mounted)).toEqual(['mp0']);
});
