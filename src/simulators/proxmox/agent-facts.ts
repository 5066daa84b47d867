import type { WorldGuest } from '../world.js';
import { disksOf, macOf } from './guest-config.js';
import type { Pve } from './pve.js';
import { volumeOf } from './volumes.js';

/** What the agent of a guest tells about it. */

const GIB = 1_073_741_824;
const MEMORY_BLOCK_MIB = 128;

export function hostName(guest: WorldGuest): string {
  return (guest.config['name'] ?? `VM${guest.vmid}`).split('.')[0] ?? '';
}

export function systemOf(guest: WorldGuest): Record<string, string> {
  return isWindows(guest)
    ? { id: 'mswindows', name: 'Microsoft Windows', 'pretty-name': 'Windows 11 Pro', machine: 'x86_64' }
    : {
        id: 'debian',
        name: 'Debian GNU/Linux',
        'pretty-name': 'Debian GNU/Linux 12 (bookworm)',
        version: '12 (bookworm)',
        'version-id': '12',
        'kernel-release': '6.1.0-40-amd64',
        'kernel-version': '#1 SMP PREEMPT_DYNAMIC Debian',
        machine: 'x86_64',
      };
}

export function processorsOf(guest: WorldGuest): unknown[] {
  const count = Number(guest.config['cores'] ?? 1) * Number(guest.config['sockets'] ?? 1);
  return Array.from({ length: count }, (_, id) => ({
    'logical-id': id,
    online: true,
    'can-offline': id > 0,
  }));
}

function isWindows(guest: WorldGuest): boolean {
  return (guest.config['ostype'] ?? '').startsWith('w');
}

export interface FileSystem {
  readonly name: string;
  readonly mountpoint: string;
  readonly type: string;
  readonly 'total-bytes': number;
  readonly 'used-bytes': number;
  readonly disk: unknown[];
}

/** There is one, on the guest's first disk. */
export function fileSystemsOf(pve: Pve, guest: WorldGuest): FileSystem[] {
  const disk = disksOf(guest.config).find(
    ({ key, isCloudInit }) => !isCloudInit && /^(scsi|virtio|sata|ide)/.test(key),
  );
  const volume = disk && volumeOf(pve, disk.volid, guest.node);
  if (!volume) return [];
  const bytes = {
    'total-bytes': Math.round(volume.sizeGiB * GIB),
    'used-bytes': Math.round(volume.usedGiB * GIB),
    disk: [],
  };
  return isWindows(guest)
    ? [{ name: 'C', mountpoint: 'C:\\', type: 'NTFS', ...bytes }]
    : [{ name: 'sda1', mountpoint: '/', type: 'ext4', ...bytes }];
}

/** What nothing lies on goes back to the storage, which holds no more of the disk than is used anyway. */
export function trim(pve: Pve, guest: WorldGuest): unknown {
  const paths = fileSystemsOf(pve, guest).map((one) => ({
    path: one.mountpoint,
    minimum: 0,
    trimmed: one['total-bytes'] - one['used-bytes'],
  }));
  return { paths };
}

export const MEMORY_BLOCK = { size: MEMORY_BLOCK_MIB * 1_048_576 };

export function memoryBlocksOf(guest: WorldGuest): unknown[] {
  const count = Math.ceil(Number(guest.config['memory'] ?? 512) / MEMORY_BLOCK_MIB);
  return Array.from({ length: count }, (_, index) => ({
    'phys-index': index,
    online: true,
    'can-offline': true,
  }));
}

export function interfacesOf(pve: Pve, guest: WorldGuest): unknown[] {
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
  const random = pve.context.random.stream('nics', guest.vmid);
  const others = Array.from({ length: pve.conditions.agentOf(guest).extraNics }, (_, index) => ({
    name: `docker${index}`,
    'hardware-address': `02:42:${random.hex(8).replace(/(..)(?=.)/g, '$1:')}`,
    'ip-addresses': [{ 'ip-address': `172.${17 + index}.0.1`, 'ip-address-type': 'ipv4', prefix: 16 }],
  }));
  // In any order: one may come before ours.
  const cards = [own, ...others].map((card) => ({ card, place: random.next() }));
  cards.sort((a, b) => a.place - b.place);
  return [loopback, ...cards.map(({ card }) => card)];
}

/** fe80:: address with the modified EUI-64 of the MAC. */
export function linkLocal(mac: string): string {
  const bytes = mac.split(':').map((part) => Number.parseInt(part, 16));
  const eui = [(bytes[0] ?? 0) ^ 2, bytes[1], bytes[2], 0xff, 0xfe, bytes[3], bytes[4], bytes[5]];
  const hex = eui.map((byte) => (byte ?? 0).toString(16).padStart(2, '0')).join('');
  return `fe80::${hex
    .match(/.{4}/g)
    ?.map((group) => group.replace(/^0{1,3}/, ''))
    .join(':')}`;
}
