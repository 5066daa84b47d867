import { describe, expect, it } from 'vitest';
import { copiedDigest } from './templates.js';
import { vmConfig } from './wire.js';

const config = {
  digest: 'abc',
  name: 'debian-12-xfce',
  description: 'our template',
  template: 1,
  cores: 2,
  memory: '2048',
  net0: 'virtio=BC:24:11:00:00:01,bridge=vmbr0',
  scsi0: 'ceph:base-9000-disk-0,size=8G',
  smbios1: 'uuid=0190aaaa-0000-7000-8000-000000000001',
};
const digest = (over: object = {}): string => copiedDigest(vmConfig.parse({ ...config, ...over }));

describe('the digest of a template', () => {
  it('does not care for what a clone gets new, nor for how the API types a value', () => {
    const other = {
      digest: 'def',
      name: 'renamed',
      description: 'x',
      smbios1: 'uuid=0190aaaa-0000-7000-8000-000000000009',
      net0: 'virtio=BC:24:11:FF:FF:FF,bridge=vmbr0',
      cores: '2',
      memory: 2048,
    };
    expect(digest(other)).toBe(digest());
  });

  it.each([
    { scsi0: 'ceph:base-9001-disk-0,size=8G' },
    { net0: 'virtio=BC:24:11:00:00:01,bridge=vmbr1' },
    { cicustom: 'x' },
  ])('changes with what a clone takes over: %o', (over) => {
    expect(digest(over)).not.toBe(digest());
  });
});
