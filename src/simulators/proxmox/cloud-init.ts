import { createHash } from 'node:crypto';
import { volumeKey, type WorldGuest } from '../world.js';
import { disksOf, macOf } from './guest-config.js';
import type { Pve } from './pve.js';
import { isCloudInitKey } from './qemu-keys.js';
import { pathOf } from './storage-content.js';
import { storageOf } from './volumes.js';
import { failure } from './wire.js';

/** What a guest is told by its cloud-init drive. */

type Config = Readonly<Record<string, string>>;
type Part = 'user' | 'network' | 'meta';

export function hasCloudInitDrive(guest: WorldGuest): boolean {
  return disksOf(guest.config).some((disk) => disk.isCloudInit);
}

/** The keys that are on the drive; name and network cards tell a guest who it is. */
export function cloudInitKeys(config: Config): Record<string, string> {
  return Object.fromEntries(
    Object.entries(config).filter(
      ([key]) => isCloudInitKey(key) || key === 'name' || /^net[0-9]+$/.test(key),
    ),
  );
}

/** Writes the drive anew. A custom part must be a snippet that is on this node. */
export function regenerate(pve: Pve, guest: WorldGuest): void {
  for (const part of ['user', 'network', 'meta', 'vendor'] as const) snippet(pve, guest, part);
  guest.cloudInit = cloudInitKeys(guest.config);
}

/** The vendor part, which is never generated. */
export const vendorDataOf = (pve: Pve, guest: WorldGuest): string | undefined =>
  snippet(pve, guest, 'vendor');

/** Text of a custom part; `undefined` = it is generated. */
function snippet(pve: Pve, guest: WorldGuest, part: Part | 'vendor'): string | undefined {
  const volid = new RegExp(`(?:^|,)${part}=([^,]+)`).exec(guest.config['cicustom'] ?? '')?.[1];
  if (volid === undefined) return undefined;
  const storage = storageOf(pve, volid.slice(0, volid.indexOf(':')));
  if (!/^[^:]+:snippets\//.test(volid)) throw failure(`${volid} is not in the snippets directory`);
  const file = pve.world.files.get(volumeKey(storage.shared ? undefined : guest.node, volid));
  if (!file) throw failure(`can't open '${pathOf(storage, volid)}' - No such file or directory`);
  return file.text;
}

/** What the drive would hold if it were written now. */
export function dump(pve: Pve, guest: WorldGuest, part: Part): string {
  const custom = snippet(pve, guest, part);
  if (custom !== undefined) return custom;
  if (part === 'user') return userData(guest);
  if (part === 'network') return networkConfig(guest);
  const id = createHash('sha1')
    .update(userData(guest) + networkConfig(guest))
    .digest('hex');
  return `instance-id: ${id}\n`;
}

function userData({ config, vmid }: WorldGuest): string {
  const name = config['name'] ?? `VM${vmid}`;
  const keys = decodeURIComponent(config['sshkeys'] ?? '')
    .split('\n')
    .filter((line) => line.trim() !== '');
  return [
    '#cloud-config',
    `hostname: ${name.split('.')[0]}`,
    'manage_etc_hosts: true',
    ...(name.includes('.') ? [`fqdn: ${name}`] : []),
    ...(config['ciuser'] === undefined ? [] : [`user: ${config['ciuser']}`]),
    ...(config['cipassword'] === undefined ? [] : [`password: ${config['cipassword']}`]),
    ...(keys.length === 0 ? [] : ['ssh_authorized_keys:', ...keys.map((key) => `  - ${key}`)]),
    ...['chpasswd:', '  expire: False', 'users:', '  - default'],
    ...(config['ciupgrade'] === '0' ? [] : ['package_upgrade: true']),
    '',
  ].join('\n');
}

function networkConfig(guest: WorldGuest): string {
  const { config } = guest;
  const cards = Object.keys(config)
    .filter((key) => /^net[0-9]+$/.test(key) && config[`ipconfig${key.slice(3)}`] !== undefined)
    .sort();
  const lines = cards.flatMap((key) => card(guest, Number(key.slice(3))));
  const servers = (config['nameserver'] ?? '').split(/[ ,;]+/).filter((one) => one !== '');
  const domains = (config['searchdomain'] ?? '').split(/[ ,;]+/).filter((one) => one !== '');
  const resolver =
    servers.length === 0
      ? []
      : [
          ...['    - type: nameserver', '      address:', ...servers.map((one) => `      - '${one}'`)],
          ...(domains.length === 0 ? [] : ['      search:', ...domains.map((one) => `      - '${one}'`)]),
        ];
  return ['version: 1', 'config:', ...lines, ...resolver, ''].join('\n');
}

function card(guest: WorldGuest, index: number): string[] {
  const net = guest.config[`net${index}`] ?? '';
  const mac = macOf({ ...guest, config: { net0: net } }) ?? '';
  const given = Object.fromEntries(
    (guest.config[`ipconfig${index}`] ?? '').split(',').map((pair) => pair.split(/=(.*)/s).slice(0, 2)),
  ) as Config;
  const v4 = given['ip'] === 'dhcp' ? ['      - type: dhcp4'] : staticAddress(given['ip'], given['gw']);
  const v6 = given['ip6'] === 'dhcp' ? ['      - type: dhcp6'] : staticAddress(given['ip6'], given['gw6']);
  return [
    ...['    - type: physical', `      name: eth${index}`, `      mac_address: '${mac}'`, '      subnets:'],
    ...v4,
    ...v6,
  ];
}

function staticAddress(address: string | undefined, gateway: string | undefined): string[] {
  if (address === undefined) return [];
  return [
    ...['      - type: static', `        address: '${address}'`],
    ...(gateway === undefined ? [] : [`        gateway: '${gateway}'`]),
  ];
}
