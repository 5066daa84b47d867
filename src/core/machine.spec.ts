import { expect, it } from 'vitest';
import { machineInput, type MachineInput } from './machine.js';

/** With everything that a machine may have. */
const MACHINE: MachineInput = {
  id: 'b0000000-0000-4000-8000-000000000001',
  kind: 'lxc',
  name: 'vm-c-martin',
  cluster: 'main',
  node: 'pve1',
  mac: '02:00:00:00:00:01',
  pool: 'hatchery-demo',
  blueprint: 'student-desktop',
  template: {
    name: 'debian-12-xfce',
    vmid: 9000,
    node: 'pve1',
    digest: 'd',
    disk: 'scsi0',
    storage: 'ceph',
    storageShared: true,
    diskGiB: 8,
  },
  archive: { volume: 'local:vztmpl/debian-12-standard.tar.zst' },
  clone: 'linked',
  storage: 'ceph',
  storageShared: true,
  size: { cores: 2, memoryMiB: 2048, diskGiB: 20 },
  network: { bridge: 'vmbr0', vlan: 20, dhcp: 'dhcp' },
  user: { name: 'student', sshKeys: [] },
  container: { swapMiB: 512, nesting: false },
  owner: { login: 'c.martin', lastName: 'Martin', firstName: 'Claire', email: 'c@example.org', group: 'g' },
  access: { service: 'guacamole', protocol: 'rdp', port: 3389, signIn: 'prompt', group: 'class' },
  onNode: {
    identities: [{ from: 100_000, count: 65_536 }],
    home: { root: '/srv/home', folder: 'c.martin', at: '/home/c.martin', readOnly: false },
    hooks: [{ name: 'h', phase: 'start', sha256: 's', reports: false, arguments: {} }],
    templateLines: [],
  },
  description: 'd',
};

/** Values by names that people choose. */
const FREE = new Set(['arguments']);

function grown(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(grown);
  if (typeof value !== 'object' || value === null) return value;
  const parts = Object.entries(value).map(([key, part]) => [key, FREE.has(key) ? part : grown(part)]);
  return { ...Object.fromEntries(parts), ofALaterBuild: true };
}

it('is read by a build that knows less of a machine than the one that accepted it', () => {
  expect(machineInput.parse(grown(MACHINE))).toEqual(MACHINE);
});

it('is read as it was accepted before there were containers', () => {
  const { kind: _, blueprint, archive, container, onNode, storageShared, template, ...rest } = MACHINE;
  const { diskGiB, ...copied } = template!;
  expect([blueprint, archive, container, onNode, storageShared, diskGiB]).not.toContain(undefined);
  const old = { ...rest, template: copied };
  expect(machineInput.parse(old)).toEqual({ ...old, kind: 'qemu' });
});
