import { isIPv4, isIPv6 } from 'node:net';
import type { AgentInterface } from './wire.js';

/** The address of the interface with our MAC: the first usable IPv4, else the first usable IPv6. Guests have more interfaces than ours (Docker, tunnels). */
export function addressOf(interfaces: readonly AgentInterface[], mac: string): string | undefined {
  const own = interfaces.find((one) => one['hardware-address']?.toLowerCase() === mac.toLowerCase());
  const addresses = (own?.['ip-addresses'] ?? []).map((entry) => entry['ip-address']);
  return addresses.find(isUsableIpv4) ?? addresses.find(isUsableIpv6);
}

/** Not "this host", loopback, self-assigned, multicast or reserved. */
function isUsableIpv4(address: string): boolean {
  if (!isIPv4(address)) return false;
  const [first = 0, second = 0] = address.split('.').map(Number);
  return first !== 0 && first !== 127 && first < 224 && !(first === 169 && second === 254);
}

/** Not unspecified, loopback, link-local (fe80::/10) or multicast. */
function isUsableIpv6(address: string): boolean {
  return isIPv6(address) && !/^(::1?$|fe[89ab]|ff)/i.test(address) && !address.includes('%');
}
