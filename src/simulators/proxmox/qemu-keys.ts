import { FORMATS } from './formats.js';
import {
  OPTIONAL_COUNT,
  OPTIONAL_DESCRIPTION,
  OPTIONAL_DNS_NAME,
  OPTIONAL_FLAG,
  OPTIONAL_TEXT,
  type ParamSpec,
  type ParamSpecs,
  type PropertySpec,
} from './params.js';

const sshKeys: ParamSpec = { ...OPTIONAL_TEXT, format: FORMATS.urlencoded };
/** A model may be written as a key whose value is the MAC: `virtio=BC:24:11:...`. */
const NET_MODELS = [
  ...['e1000', 'e1000-82540em', 'e1000-82544gc', 'e1000-82545em', 'e1000e', 'i82551', 'i82557b'],
  ...['i82559er', 'ne2k_isa', 'ne2k_pci', 'pcnet', 'rtl8139', 'virtio', 'vmxnet3'],
];
const net: ParamSpec = {
  ...OPTIONAL_TEXT,
  properties: {
    model: { type: 'string', enum: NET_MODELS, defaultKey: true },
    macaddr: { type: 'string', optional: true, format: FORMATS['mac-addr'] },
    ...Object.fromEntries(
      NET_MODELS.map((model): [string, PropertySpec] => [
        model,
        { type: 'string', alias: 'macaddr', keyAlias: 'model' },
      ]),
    ),
    bridge: { type: 'string', optional: true, format: FORMATS['pve-bridge-id'] },
    queues: { type: 'integer', optional: true, minimum: 0, maximum: 64 },
    rate: { type: 'number', optional: true, minimum: 0 },
    tag: { type: 'integer', optional: true, minimum: 1, maximum: 4094 },
    trunks: { type: 'string', optional: true, pattern: /^\d+(?:-\d+)?(?:;\d+(?:-\d+)?)*$/ },
    firewall: OPTIONAL_FLAG,
    link_down: OPTIONAL_FLAG,
    mtu: { type: 'integer', optional: true, minimum: 1, maximum: 65_520 },
  },
};
const count = (minimum: number, maximum?: number): ParamSpec => ({
  type: 'integer',
  optional: true,
  minimum,
  ...(maximum === undefined ? {} : { maximum }),
});

/** The keys of a qemu config that can be written, by the privilege that each needs. `cloud-init` is `VM.Config.Cloudinit` or `VM.Config.Network`. */
const BY_PRIVILEGE: Readonly<Record<string, ParamSpecs>> = {
  'VM.Config.CPU': {
    cores: count(1),
    sockets: count(1),
    cpu: OPTIONAL_TEXT,
    cpulimit: { type: 'number', optional: true, minimum: 0, maximum: 128 },
    cpuunits: count(1, 262_144),
    vcpus: count(1),
    numa: OPTIONAL_FLAG,
    affinity: OPTIONAL_TEXT,
  },
  'VM.Config.Memory': {
    memory: { type: 'string', optional: true, pattern: /^(current=)?[0-9]+$/ },
    balloon: OPTIONAL_COUNT,
    shares: count(0, 50_000),
  },
  'VM.Config.Network': { 'net[n]': net },
  'VM.Config.Cloudinit|VM.Config.Network': {
    ciuser: OPTIONAL_TEXT,
    cipassword: OPTIONAL_TEXT,
    citype: { type: 'string', optional: true, enum: ['configdrive2', 'nocloud', 'opennebula'] },
    ciupgrade: OPTIONAL_FLAG,
    cicustom: OPTIONAL_TEXT,
    sshkeys: sshKeys,
    nameserver: OPTIONAL_TEXT,
    searchdomain: OPTIONAL_TEXT,
    'ipconfig[n]': OPTIONAL_TEXT,
  },
  'VM.Config.Disk': {
    'scsi[n]': OPTIONAL_TEXT,
    'virtio[n]': OPTIONAL_TEXT,
    'sata[n]': OPTIONAL_TEXT,
    'ide[n]': OPTIONAL_TEXT,
    'unused[n]': OPTIONAL_TEXT,
  },
  'VM.Config.HWType': {
    bios: { type: 'string', optional: true, enum: ['seabios', 'ovmf'] },
    machine: OPTIONAL_TEXT,
    scsihw: OPTIONAL_TEXT,
    vga: OPTIONAL_TEXT,
    'serial[n]': OPTIONAL_TEXT,
    smbios1: OPTIONAL_TEXT,
    vmgenid: OPTIONAL_TEXT,
    tablet: OPTIONAL_FLAG,
    hotplug: OPTIONAL_TEXT,
    kvm: OPTIONAL_FLAG,
    acpi: OPTIONAL_FLAG,
  },
  'VM.Config.Options': {
    name: OPTIONAL_DNS_NAME,
    description: OPTIONAL_DESCRIPTION,
    tags: OPTIONAL_TEXT,
    onboot: OPTIONAL_FLAG,
    startup: OPTIONAL_TEXT,
    boot: OPTIONAL_TEXT,
    ostype: OPTIONAL_TEXT,
    agent: OPTIONAL_TEXT,
    protection: OPTIONAL_FLAG,
    localtime: OPTIONAL_FLAG,
    template: OPTIONAL_FLAG,
    freeze: OPTIONAL_FLAG,
  },
  root: { args: OPTIONAL_TEXT, hookscript: OPTIONAL_TEXT, lock: OPTIONAL_TEXT },
};

export const QEMU_CONFIG_PARAMS: ParamSpecs = Object.assign({}, ...Object.values(BY_PRIVILEGE)) as ParamSpecs;

export const CONFIG_PRIVILEGES = [
  'Disk',
  'CDROM',
  'CPU',
  'Memory',
  'Network',
  'HWType',
  'Options',
  'Cloudinit',
].map((what) => `VM.Config.${what}`);

/** Privileges of which one is needed to write `key`; `root` = nobody but a root ticket. */
export function privilegesFor(key: string): readonly string[] {
  const indexed = key.replace(/[0-9]+$/, '[n]');
  for (const [privileges, specs] of Object.entries(BY_PRIVILEGE))
    if (Object.hasOwn(specs, key) || Object.hasOwn(specs, indexed)) return privileges.split('|');
  return ['root'];
}

/** Keys that take effect at once on a running guest; the others wait for its next start. */
export function isLive(key: string): boolean {
  return ['name', 'description', 'tags', 'onboot', 'startup', 'protection', 'boot'].includes(key);
}
