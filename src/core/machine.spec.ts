import { expect, it } from 'vitest';
import { machineInput } from './machine.js';

const accepted = {
  id: '00000000-0000-4000-8000-000000000001',
  name: 'vm-1',
  cluster: 'main',
  node: 'pve1',
  mac: '02:00:00:00:00:01',
  pool: 'hatchery-test',
  storage: 'ceph',
  size: { cores: 1, memoryMiB: 1024, diskGiB: 8 },
  network: { bridge: 'vmbr0' },
  user: { name: 'student', sshKeys: [] },
  owner: { login: 'student', lastName: '', firstName: '' },
  description: '',
};

it('the machine that a newer build accepted is read without what this one does not know', () => {
  const newer = { ...accepted, later: true, size: { ...accepted.size, later: 1 } };
  expect(machineInput.parse(newer)).toEqual(machineInput.parse(accepted));
});
