import { usableAddress } from '../../core/address.js';
import type { AgentInterface } from './wire.js';

/** The usable address of the interface with our MAC. Guests have more interfaces than ours (Docker, tunnels). */
export function addressOf(interfaces: readonly AgentInterface[], mac: string): string | undefined {
  const own = interfaces.find((one) => one['hardware-address']?.toLowerCase() === mac.toLowerCase());
  return usableAddress((own?.['ip-addresses'] ?? []).map((entry) => entry['ip-address']));
}
