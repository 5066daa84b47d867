import { usableAddress } from '../../core/address.js';
import type { z } from 'zod';
import type { AgentInterface, containerInterfaces } from './wire.js';

/** The usable address of the interface with our MAC. Guests have more interfaces than ours (Docker, tunnels). */
export function addressOf(interfaces: readonly AgentInterface[], mac: string): string | undefined {
  const own = interfaces.find((one) => one['hardware-address']?.toLowerCase() === mac.toLowerCase());
  return usableAddress((own?.['ip-addresses'] ?? []).map((entry) => entry['ip-address']));
}

/** What a node tells of a container, in the words of a guest agent. */
export function ofContainer(interfaces: z.infer<typeof containerInterfaces>): AgentInterface[] {
  return (interfaces ?? []).map((one) => {
    const told = one['ip-addresses']?.map((entry) => entry['ip-address']) ?? [one.inet, one.inet6];
    return {
      name: one.name,
      'hardware-address': one['hardware-address'] ?? one.hwaddr,
      // `inet` carries the length of its prefix.
      'ip-addresses': told.flatMap((text) =>
        text === undefined ? [] : [{ 'ip-address': text.split('/')[0]! }],
      ),
    };
  });
}
