import {
  OPTIONAL_COUNT,
  OPTIONAL_DESCRIPTION,
  OPTIONAL_DNS_NAME,
  OPTIONAL_FLAG,
  OPTIONAL_TEXT,
  type ParamSpec,
  type ParamSpecs,
} from './params.js';

const ENCODED = /^[-%a-zA-Z0-9_.!~*'()]*$/;
const UNICAST_MAC = /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/i;

const sshKeys: ParamSpec = {
  ...OPTIONAL_TEXT,
  format: (value) =>
    ENCODED.test(value) ? undefined : `invalid format - invalid urlencoded string: ${value}\n`,
};
const net: ParamSpec = {
  ...OPTIONAL_TEXT,
  format: (value) => {
    const mac = /(?:^|,)(?:virtio|e1000e?|rtl8139|vmxnet3|macaddr)=([^,]*)/.exec(value)?.[1];
    if (!/(?:^|,)(?:model=|virtio|e1000|rtl8139|vmxnet3)/.test(value))
      return 'invalid format - missing key in comma-separated list property: model\n';
    return mac === undefined || UNICAST_MAC.test(mac)
      ? undefined
      : 'invalid format - macaddr: invalid format - value does not look like a valid unicast MAC address\n';
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
