import { isOwnMark, parseMark, type Mark, type MarkIdentity } from '../../core/mark.js';
import type { GuestSettings, OwnGuest } from '../../ports/hypervisor.js';
import { containerMacOf, volumesOf } from './container-config.js';
import { parseProperties, sizeGiB } from './properties.js';
import type { ContainerConfig, VmConfig } from './wire.js';

/** A config as the cluster gives it. */
export type GuestConfig =
  | { readonly kind: 'qemu'; readonly config: VmConfig }
  | { readonly kind: 'lxc'; readonly config: ContainerConfig };

export interface Drive {
  /** `ceph:vm-105-disk-0`. */
  readonly volume: string;
  readonly storage: string;
  readonly sizeGiB: number | undefined;
  readonly isCloudInit: boolean;
}

const DRIVE_KEY = /^(scsi|virtio|sata|ide|efidisk|tpmstate)[0-9]+$/;

/** The drives that own a volume, by key; a CD image that is only mounted is none of them. */
export function drivesOf(config: VmConfig): Map<string, Drive> {
  const drives = new Map<string, Drive>();
  for (const [key, value] of Object.entries(config)) {
    if (!DRIVE_KEY.test(key) || typeof value !== 'string') continue;
    const properties = parseProperties(value);
    const volume = properties.get('') ?? properties.get('file') ?? '';
    const colon = volume.indexOf(':');
    const isCloudInit = /cloudinit/.test(volume);
    if (colon < 1 || (properties.get('media') === 'cdrom' && !isCloudInit)) continue;
    drives.set(key, {
      volume,
      storage: volume.slice(0, colon),
      sizeGiB: sizeGiB(properties.get('size')),
      isCloudInit,
    });
  }
  return drives;
}

const NET_MODEL = /^(virtio|e1000e?|e1000-82540em|rtl8139|vmxnet3|ne2k_(?:pci|isa)|i8255[0-9a-z]+|pcnet)$/;

/** MAC address of a virtual machine's network device in lower case. */
export function macOf(net: string | undefined): string | undefined {
  for (const [key, value] of parseProperties(net ?? ''))
    if (NET_MODEL.test(key) || key === 'macaddr') return value.toLowerCase();
  return undefined;
}

/** What is new with every guest that is made, whatever its config was copied from. */
export function incarnationOf({ kind, config }: GuestConfig): string | undefined {
  return kind === 'qemu' ? smbiosUuidOf(config) : containerMacOf(config.net0);
}

/** UUID of `smbios1`. */
function smbiosUuidOf(config: VmConfig): string | undefined {
  return parseProperties(config.smbios1 ?? '')
    .get('uuid')
    ?.toLowerCase();
}

/** Whose guest a config says it is. `unknown` = the temporary config of a clone or of a destroy, which bears no mark. */
export type Ownership =
  | { readonly owner: 'ours'; readonly mark: Mark }
  | { readonly owner: 'foreign'; readonly why: string }
  | { readonly owner: 'unknown'; readonly why: string };

/** Reads the mark of a config and compares it with the identity that we expect there. Pure. */
export function ownershipOf(
  config: Pick<VmConfig, 'description' | 'lock'>,
  identity: MarkIdentity,
): Ownership {
  const mark = parseMark(config.description);
  if (mark !== undefined) {
    if (isOwnMark(mark, identity)) return { owner: 'ours', mark };
    return { owner: 'foreign', why: foreignMark(mark, identity) };
  }
  if (config.lock === 'clone' || config.lock === 'create')
    return { owner: 'unknown', why: `guest ${identity.vmid} is being made and bears no mark yet` };
  // The last thing that a destroy writes before it removes the config: everything but the lock is gone.
  if (config.lock === 'destroyed')
    return { owner: 'unknown', why: `guest ${identity.vmid} is being destroyed and bears no mark any more` };
  return { owner: 'foreign', why: `guest ${identity.vmid} bears no mark of ours` };
}

function foreignMark(mark: Mark, identity: MarkIdentity): string {
  if (mark.deployment !== identity.deployment)
    return `guest ${identity.vmid} bears the mark of another deployment (${mark.deployment})`;
  if (mark.vmid !== identity.vmid)
    return `guest ${identity.vmid} bears the mark of guest ${mark.vmid}, of which somebody made a copy`;
  return `guest ${identity.vmid} bears the mark of another machine (${mark.machine})`;
}

/** A guest of ours as the port shows it. */
export function ownGuest(
  seen: GuestConfig,
  mark: Mark,
  place: { readonly node: string; readonly pool: string | undefined },
): OwnGuest {
  const { kind, config } = seen;
  const both = {
    vmid: mark.vmid,
    node: place.node,
    mark,
    lock: config.lock,
    pool: place.pool,
    incarnation: incarnationOf(seen),
    memoryMiB: config.memory,
    configDigest: config.digest,
  };
  if (kind === 'lxc')
    return {
      ...both,
      kind,
      name: config.hostname,
      cores: config.cores,
      mac: containerMacOf(config.net0),
      ciUser: undefined,
      disks: Object.fromEntries(
        [...volumesOf(config)].map(([key, { volume, sizeGiB: size }]) => [key, { volume, sizeGiB: size }]),
      ),
      cloudInitDrives: 0,
    };
  const drives = drivesOf(config);
  return {
    ...both,
    kind,
    name: config.name,
    cores: config.cores === undefined ? undefined : config.cores * (config.sockets ?? 1),
    mac: macOf(config.net0),
    ciUser: config.ciuser,
    disks: Object.fromEntries(
      [...drives].map(([key, { volume, sizeGiB: size }]) => [key, { volume, sizeGiB: size }]),
    ),
    cloudInitDrives: [...drives.values()].filter((drive) => drive.isCloudInit).length,
  };
}

/** What a config write must set and delete so that the guest has these settings; both empty = nothing to do. Pure. */
export function settingsChange(
  config: VmConfig,
  settings: GuestSettings,
): { readonly set: Readonly<Record<string, string | number>>; readonly remove: readonly string[] } {
  const set: Record<string, string | number> = {};
  const remove: string[] = [];
  if ((config.sockets ?? 1) !== 1) set['sockets'] = 1;
  if (config.cores !== settings.cores) set['cores'] = settings.cores;
  if (config.memory !== settings.memoryMiB) set['memory'] = settings.memoryMiB;
  // A balloon above the memory is refused by the API.
  if (config.balloon !== undefined && config.balloon > settings.memoryMiB)
    set['balloon'] = settings.memoryMiB;
  if (!hasNetwork(config.net0, settings)) set['net0'] = networkDevice(config.net0, settings);
  if (config.ciuser !== settings.ciUser) set['ciuser'] = settings.ciUser;
  // A password is masked when read and salted when written: it cannot be compared.
  if (settings.ciPassword !== undefined) set['cipassword'] = settings.ciPassword;
  const keys = settings.sshKeys.map((key) => key.trim()).join('\n');
  if (decoded(config.sshkeys) !== keys) {
    if (keys === '') remove.push('sshkeys');
    // The API wants this one value percent-encoded by itself, before the form is encoded.
    else set['sshkeys'] = encodeURIComponent(keys);
  }
  if (config.ipconfig0 !== 'ip=dhcp') set['ipconfig0'] = 'ip=dhcp';
  if (!isAgentEnabled(config.agent)) set['agent'] = 1;
  return { set, remove };
}

export function isAgentEnabled(agent: string | undefined): boolean {
  return /^(?:1|enabled=1)(?:,|$)/.test(agent ?? '');
}

function hasNetwork(net: string | undefined, { mac, bridge, vlan }: GuestSettings): boolean {
  const properties = parseProperties(net ?? '');
  return (
    properties.get('virtio')?.toLowerCase() === mac.toLowerCase() &&
    properties.get('bridge') === bridge &&
    properties.get('tag') === (vlan === undefined ? undefined : String(vlan))
  );
}

/** Model, MAC, bridge and tag are ours; what else the template's device says (firewall, mtu, ...) stays. */
function networkDevice(net: string | undefined, { mac, bridge, vlan }: GuestSettings): string {
  const kept = [...parseProperties(net ?? '')].filter(
    ([key]) => !NET_MODEL.test(key) && !['', 'model', 'macaddr', 'bridge', 'tag'].includes(key),
  );
  return [
    `virtio=${mac.toUpperCase()}`,
    `bridge=${bridge}`,
    ...(vlan === undefined ? [] : [`tag=${vlan}`]),
    ...kept.map(([key, value]) => `${key}=${value}`),
  ].join(',');
}

function decoded(sshkeys: string | undefined): string {
  try {
    return decodeURIComponent(sshkeys ?? '').trim();
  } catch {
    return 'not readable';
  }
}
