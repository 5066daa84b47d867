import { isIPv4, isIPv6 } from 'node:net';

/** A MAC address as we keep and send it: lower-case, with colons, `02:1a:2b:3c:4d:5e`. */
export type Mac = string;

/**
 * Reads a MAC address written with colons, hyphens, dots or nothing; `undefined` when it is none.
 * Upper case and the Windows form `AA-BB-CC-DD-EE-FF` give the same text as ours.
 */
export function normaliseMac(text: string): Mac | undefined {
  const trimmed = text.trim();
  if (!MAC_FORMS.some((form) => form.test(trimmed))) return undefined;
  return trimmed
    .replace(/[^0-9A-Fa-f]/g, '')
    .toLowerCase()
    .match(/../g)
    ?.join(':');
}

const MAC_FORMS = [
  /^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$/,
  /^[0-9A-Fa-f]{2}(-[0-9A-Fa-f]{2}){5}$/,
  /^[0-9A-Fa-f]{4}(\.[0-9A-Fa-f]{4}){2}$/,
  /^[0-9A-Fa-f]{12}$/,
];

/** The form of Windows DHCP filters: `AA-BB-CC-DD-EE-FF`. Throws a plain TypeError on text that is no MAC: callers hold a checked one. */
export function macWithHyphens(mac: Mac): string {
  const normal = normaliseMac(mac);
  if (normal === undefined) throw new TypeError(`"${mac}" is not a MAC address`);
  return normal.replaceAll(':', '-').toUpperCase();
}

/**
 * A unicast, locally administered MAC from five random bytes. The first byte is always 02: never multicast, and never
 * the prefix of a manufacturer or the one that Proxmox VE gives by itself (BC:24:11).
 */
export function localMac(random: Uint8Array): Mac {
  if (random.length !== 5) throw new TypeError('a MAC needs five random bytes');
  return ['02', ...Array.from(random, (byte) => byte.toString(16).padStart(2, '0'))].join(':');
}

/** What people can reach a guest by, of the addresses that it names: the first usable IPv4, else the first usable IPv6. */
export function usableAddress(addresses: readonly string[]): string | undefined {
  return addresses.find(isUsableIpv4) ?? addresses.find(isUsableIpv6);
}

/** Not "this host", loopback, self-assigned, multicast or reserved. */
function isUsableIpv4(address: string): boolean {
  if (!isIPv4(address)) return false;
  const [first = 0, second = 0] = address.split('.').map(Number);
  return first !== 0 && first !== 127 && first < 224 && !(first === 169 && second === 254);
}

/** Not unspecified, loopback, an IPv4 address in disguise, link-local (fe80::/10) or multicast. */
function isUsableIpv6(address: string): boolean {
  if (!isIPv6(address) || address.includes('%')) return false;
  // In its shortest form: 0:0:0:0:0:0:0:1 is a loopback too.
  return !/^\[(::|fe[89ab]|ff)/.test(new URL(`http://[${address}]`).hostname);
}
