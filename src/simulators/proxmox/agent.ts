import { needAny } from './auth.js';
import { agentEnabled, macOf } from './guest-config.js';
import { guestOn, type Handled, type PveCall, type Route } from './pve.js';
import { failure } from './wire.js';

/** A ping of a sleeping agent keeps the worker this long. */
const PING_MS = 3_000;

export const agentRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/nodes/{node}/qemu/{vmid}/agent/network-get-interfaces',
    op: 'qemu.agent.interfaces',
    kind: 'agent',
    params: {},
    permit: (account, path, _, world) =>
      needAny(
        account,
        `/vms/${path['vmid']}`,
        ...(world.version === '8.4' ? ['VM.Monitor'] : ['VM.GuestAgent.Audit', 'VM.GuestAgent.Unrestricted']),
      ),
    handle: interfaces,
  },
];

async function interfaces({ pve, node, vmid }: PveCall): Promise<Handled> {
  const guest = guestOn(pve, node, vmid);
  if (!agentEnabled(guest)) throw failure('No QEMU guest agent configured');
  if (guest.status !== 'running') throw failure(`VM ${vmid} is not running`);
  const { upAtMs, extraNics } = pve.conditions.agentOf(guest);
  if (pve.context.clock.elapsedMs() < upAtMs) {
    await pve.context.clock.sleep(PING_MS);
    throw failure('QEMU guest agent is not running');
  }
  const mac = macOf(guest) ?? '00:00:00:00:00:00';
  const v6 = [{ 'ip-address': linkLocal(mac), 'ip-address-type': 'ipv6', prefix: 64 }];
  const v4 =
    guest.address === undefined
      ? []
      : [{ 'ip-address': guest.address, 'ip-address-type': 'ipv4', prefix: 16 }];
  const loopback = {
    name: 'lo',
    'hardware-address': '00:00:00:00:00:00',
    'ip-addresses': [{ 'ip-address': '127.0.0.1', 'ip-address-type': 'ipv4', prefix: 8 }],
  };
  const own = { name: 'eth0', 'hardware-address': mac, 'ip-addresses': [...v4, ...v6] };
  const random = pve.context.random.stream('nics', vmid);
  const others = Array.from({ length: extraNics }, (_, index) => ({
    name: `docker${index}`,
    'hardware-address': `02:42:${random.hex(8).replace(/(..)(?=.)/g, '$1:')}`,
    'ip-addresses': [{ 'ip-address': `172.${17 + index}.0.1`, 'ip-address-type': 'ipv4', prefix: 16 }],
  }));
  // In any order: one may come before ours.
  const cards = [own, ...others].map((card) => ({ card, place: random.next() }));
  cards.sort((a, b) => a.place - b.place);
  return { data: { result: [loopback, ...cards.map(({ card }) => card)] } };
}

/** fe80:: address with the modified EUI-64 of the MAC. */
function linkLocal(mac: string): string {
  const bytes = mac.split(':').map((part) => Number.parseInt(part, 16));
  const eui = [(bytes[0] ?? 0) ^ 2, bytes[1], bytes[2], 0xff, 0xfe, bytes[3], bytes[4], bytes[5]];
  const hex = eui.map((byte) => (byte ?? 0).toString(16).padStart(2, '0')).join('');
  return `fe80::${hex
    .match(/.{4}/g)
    ?.map((group) => group.replace(/^0{1,3}/, ''))
    .join(':')}`;
}
