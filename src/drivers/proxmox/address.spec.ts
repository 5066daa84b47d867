import { describe, expect, it } from 'vitest';
import { addressOf } from './address.js';

const nic = (mac: string, ...addresses: string[]) => ({
  name: 'x',
  'hardware-address': mac,
  'ip-addresses': addresses.map((address) => ({ 'ip-address': address })),
});

describe('the address of a guest', () => {
  it('is that of the interface with our MAC, whatever else the guest has', () => {
    const interfaces = [
      nic('02:42:00:00:00:01', '172.17.0.1'),
      nic('02:00:00:AA:BB:CC', '10.20.0.11'),
      { name: 'wg0' },
    ];
    expect(addressOf(interfaces, '02:00:00:aa:bb:cc')).toBe('10.20.0.11');
  });

  it('is IPv4 before IPv6, and never a link-local or self-assigned one', () => {
    const mac = '02:00:00:aa:bb:cc';
    expect(addressOf([nic(mac, 'fe80::1', '2001:db8::5', '10.0.0.9')], mac)).toBe('10.0.0.9');
    expect(addressOf([nic(mac, 'fe80::1', '169.254.3.4', '2001:db8::5')], mac)).toBe('2001:db8::5');
    expect(addressOf([nic(mac, 'fe80::1', '169.254.3.4', '127.0.0.1', '::1')], mac)).toBeUndefined();
    expect(addressOf([{ 'hardware-address': mac }], mac)).toBeUndefined();
  });
});
