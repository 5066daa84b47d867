import { describe, expect, it } from 'vitest';
import { addressOf, type SshSettings } from './node-address.js';

const settings = (addresses: SshSettings['addresses']): SshSettings => ({
  user: 'root',
  port: 2200,
  privateKey: { file: 'key' },
  hostKeys: {},
  addresses,
});

describe('where a node answers', () => {
  it.each([
    [undefined, { host: 'pve1', port: 2200 }],
    ['10.0.0.11', { host: '10.0.0.11', port: 2200 }],
    ['pve1.example.org:2222', { host: 'pve1.example.org', port: 2222 }],
    ['[fd00::1]:2222', { host: 'fd00::1', port: 2222 }],
    ['[fd00::1]', { host: 'fd00::1', port: 2200 }],
  ])('is what is written for it, or its own name: %s', (written, address) => {
    expect(addressOf(settings(written === undefined ? {} : { pve1: written }), 'pve1')).toEqual(address);
  });
});
