import type { WorldGuest } from '../world.js';
import { linkLocal } from './agent-facts.js';
import { need } from './auth.js';
import { macOf, parseNet } from './guest-config.js';
import { guestOn, type Pve, type Route } from './pve.js';

export const lxcInterfacesRoute: Route = {
  method: 'GET',
  path: '/nodes/{node}/lxc/{vmid}/interfaces',
  op: 'lxc.interfaces',
  kind: 'protected-read',
  params: {},
  permit: (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Audit'),
  handle: ({ pve, node, vmid }) => ({ data: interfacesOf(pve, guestOn(pve, node, vmid, 'lxc')) }),
};

interface Card {
  readonly name: string;
  readonly mac: string;
  /** `10.20.0.11/16`; `undefined` = DHCP gave none yet. */
  readonly inet: string | undefined;
  readonly inet6: string;
}

/** As the node sees them in the container's network namespace, which is there only while it runs. */
function interfacesOf(pve: Pve, guest: WorldGuest): unknown[] | null {
  if (guest.status !== 'running') return null;
  const { upAtMs, extraNics } = pve.conditions.agentOf(guest);
  const isUp = pve.context.clock.elapsedMs() >= upAtMs;
  const mac = macOf(guest);
  const cards: Card[] = [{ name: 'lo', mac: '00:00:00:00:00:00', inet: '127.0.0.1/8', inet6: '::1/128' }];
  if (mac !== undefined)
    cards.push({
      name: parseNet(guest.config['net0'] ?? '').rest.get('name') ?? 'eth0',
      mac,
      inet: isUp && guest.address !== undefined ? `${guest.address}/16` : undefined,
      inet6: `${linkLocal(mac)}/64`,
    });
  for (let index = 0; index < (isUp ? extraNics : 0); index += 1) {
    const own = `02:42:00:00:00:${index.toString(16).padStart(2, '0')}`;
    cards.push({
      name: `docker${index}`,
      mac: own,
      inet: `172.${17 + index}.0.1/16`,
      inet6: `${linkLocal(own)}/64`,
    });
  }
  return cards.map(rowOf);
}

/** Everything is said twice: shortly, and as an agent would. */
function rowOf({ name, mac, inet, inet6 }: Card): Record<string, unknown> {
  const short = { ...(inet === undefined ? {} : { inet }), inet6 };
  const addresses = [...(inet === undefined ? [] : [addressOf('inet', inet)]), addressOf('inet6', inet6)];
  return { name, hwaddr: mac, 'hardware-address': mac, ...short, 'ip-addresses': addresses };
}

function addressOf(type: 'inet' | 'inet6', text: string): Record<string, unknown> {
  const [address, prefix] = text.split('/');
  return { 'ip-address-type': type, 'ip-address': address, prefix: Number(prefix) };
}
