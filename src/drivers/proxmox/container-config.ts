import type { ContainerSettings } from '../../ports/hypervisor.js';
import { parseProperties, sizeGiB } from './properties.js';
import type { ContainerConfig } from './wire.js';

/** A volume that a container owns. */
export interface ContainerVolume {
  /** `ceph:vm-105-disk-0`. */
  readonly volume: string;
  readonly storage: string;
  readonly sizeGiB: number | undefined;
}

const MOUNT_KEY = /^(?:rootfs|mp[0-9]+)$/;

/** The volumes that a container owns, by key: not what is mounted into it from its node. */
export function volumesOf(config: ContainerConfig): Map<string, ContainerVolume> {
  const volumes = new Map<string, ContainerVolume>();
  for (const [key, value] of mounts(config)) {
    const properties = parseProperties(value);
    const volume = sourceOf(properties);
    if (isForeign(volume)) continue;
    const storage = volume.slice(0, volume.indexOf(':'));
    volumes.set(key, { volume, storage, sizeGiB: sizeGiB(properties.get('size')) });
  }
  return volumes;
}

/** Keys of mounts whose source is a path of the node: no container that has one can be cloned. */
export function foreignMounts(config: ContainerConfig): string[] {
  return mounts(config).flatMap(([key, value]) => (isForeign(sourceOf(parseProperties(value))) ? [key] : []));
}

function mounts(config: ContainerConfig): [key: string, value: string][] {
  return Object.entries(config).flatMap(([key, value]): [string, string][] =>
    MOUNT_KEY.test(key) && typeof value === 'string' ? [[key, value]] : [],
  );
}

const sourceOf = (properties: ReadonlyMap<string, string>): string =>
  properties.get('') ?? properties.get('volume') ?? '';

/** A path of the node, or a device of it. */
const isForeign = (source: string): boolean => source.startsWith('/') || !source.includes(':');

/** MAC address of a container's network device in lower case. */
export function containerMacOf(net: string | undefined): string | undefined {
  return parseProperties(net ?? '')
    .get('hwaddr')
    ?.toLowerCase();
}

/** What a config write must set so that the container has these settings; empty = nothing to do. Pure. */
export function containerChange(
  config: ContainerConfig,
  settings: ContainerSettings,
): Readonly<Record<string, string | number>> {
  const set: Record<string, string | number> = {};
  if (config.cores !== settings.cores) set['cores'] = settings.cores;
  if (config.memory !== settings.memoryMiB) set['memory'] = settings.memoryMiB;
  if (config.swap !== settings.swapMiB) set['swap'] = settings.swapMiB;
  if (!hasNetwork(config.net0, settings)) set['net0'] = networkOf(config.net0, settings);
  if ((parseProperties(config.features ?? '').get('nesting') === '1') !== settings.nesting)
    set['features'] = featuresOf(config.features, settings.nesting);
  return set;
}

function hasNetwork(net: string | undefined, { mac, bridge, vlan }: ContainerSettings): boolean {
  const properties = parseProperties(net ?? '');
  return (
    properties.get('name') === NET_NAME &&
    properties.get('hwaddr')?.toLowerCase() === mac.toLowerCase() &&
    properties.get('bridge') === bridge &&
    properties.get('ip') === 'dhcp' &&
    properties.get('tag') === (vlan === undefined ? undefined : String(vlan))
  );
}

const NET_NAME = 'eth0';
const OUR_NET_KEYS = ['', 'name', 'bridge', 'hwaddr', 'ip', 'gw', 'type', 'tag'];

/** Name, bridge, MAC, DHCP and tag are ours; what else the template's device says (firewall, mtu, ...) stays. */
export function networkOf(net: string | undefined, { mac, bridge, vlan }: ContainerSettings): string {
  const kept =
    net === undefined ? [] : [...parseProperties(net)].filter(([key]) => !OUR_NET_KEYS.includes(key));
  return [
    `name=${NET_NAME}`,
    `bridge=${bridge}`,
    `hwaddr=${mac.toUpperCase()}`,
    'ip=dhcp',
    'type=veth',
    ...(vlan === undefined ? [] : [`tag=${vlan}`]),
    ...kept.map(([key, value]) => `${key}=${value}`),
  ].join(',');
}

/** Only root may change any other feature: what the template has stays. */
function featuresOf(features: string | undefined, nesting: boolean): string {
  const kept =
    features === undefined ? [] : [...parseProperties(features)].filter(([key]) => key !== 'nesting');
  return [...kept.map(([key, value]) => `${key}=${value}`), `nesting=${Number(nesting)}`].join(',');
}
