import { describe, expect, it } from 'vitest';
import { localMac, macWithHyphens, normaliseMac, usableAddress } from './address.js';

describe('a MAC address', () => {
  it.each([
    '02:1A:2b:3C:4d:5E',
    '02-1a-2B-3c-4D-5e',
    '021a.2b3c.4d5e',
    '021A2B3C4D5E',
    ' 02:1a:2b:3c:4d:5e ',
  ])('written as %j is one and the same', (text) => {
    expect(normaliseMac(text)).toBe('02:1a:2b:3c:4d:5e');
  });

  it.each([
    '',
    '02:1a:2b:3c:4d',
    '02:1a:2b:3c:4d:5e:6f',
    '02:1a-2b:3c:4d:5e',
    '02:1a:2b:3c:4d:5g',
    '2:1a:2b:3c:4d:5e',
  ])('is not %j', (text) => {
    expect(normaliseMac(text)).toBeUndefined();
  });

  it('has the form of Windows DHCP', () => {
    expect(macWithHyphens('02:1a:2b:3c:4d:5e')).toBe('02-1A-2B-3C-4D-5E');
    expect(() => macWithHyphens('x')).toThrow(TypeError);
  });

  it('made by us is unicast and locally administered, whatever the random bytes', () => {
    for (const fill of [0x00, 0xff]) {
      const first = Number.parseInt(localMac(new Uint8Array(5).fill(fill)).slice(0, 2), 16);
      expect(first & 0b11).toBe(0b10);
    }
    expect(localMac(Uint8Array.of(0, 1, 10, 171, 255))).toBe('02:00:01:0a:ab:ff');
  });
});

describe('what a guest says about its addresses', () => {
  it.each([
    ...['0.0.0.0', '127.0.0.1', '169.254.7.7', '224.0.0.1', '255.255.255.255'],
    ...['::', '::1', '0:0:0:0:0:0:0:1', 'fe80::1', 'FE80:0::1', 'fe80::1%eth0', 'ff02::1', '::ffff:10.0.0.1'],
    ...[
      '',
      '10.0.0',
      '010.0.0.1',
      '10.0.0.1/24',
      ' 10.0.0.1',
      '10.0.0.1\u0000',
      '$(reboot)',
      '<b>10.0.0.1</b>',
    ],
  ])('is of no use when it is %j', (address) => {
    expect(usableAddress([address])).toBeUndefined();
  });

  it('is taken IPv4 first', () => {
    expect(usableAddress(['fe80::1', '2001:db8::5', '10.0.0.9'])).toBe('10.0.0.9');
    expect(usableAddress(['fe80::1', '2001:db8::5'])).toBe('2001:db8::5');
    expect(usableAddress([])).toBeUndefined();
  });
});
