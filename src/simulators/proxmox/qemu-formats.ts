import { FORMATS, type Format } from './formats.js';
import { volumeId } from './qemu-drive-params.js';
import { OPTIONAL_COUNT, OPTIONAL_FLAG, OPTIONAL_TEXT, type ParamSpec, type PropertySpec } from './params.js';

/** Property strings and formats of a qemu config that are not about drives. */

const ONE_OR_MORE = /^\d+(?:-\d+)?(?:;\d+(?:-\d+)?)*$/;
const DISK_OR_NET = /^((ide|sata|scsi|virtio|net|usb|hostpci)\d+)$/;

export const oneOf = (...values: string[]): PropertySpec => ({
  type: 'string',
  optional: true,
  enum: values,
});
const properties = (keys: Readonly<Record<string, PropertySpec>>): ParamSpec => ({
  type: 'string',
  optional: true,
  properties: keys,
});
export const count = (minimum: number, maximum?: number): ParamSpec => ({
  type: 'integer',
  optional: true,
  minimum,
  ...(maximum === undefined ? {} : { maximum }),
});
export const matching = (pattern: RegExp): PropertySpec => ({ type: 'string', optional: true, pattern });

/** `order=scsi0;ide2`, or the letters of old. */
const bootOrder: Format = (value) => {
  const order = /^(?:legacy=)?([acdn]{1,4})$/.test(value) ? [] : /^order=(.*)$/.exec(value)?.[1]?.split(';');
  if (order === undefined) return 'invalid boot order format';
  return order.every((device) => device === '' || DISK_OR_NET.test(device))
    ? undefined
    : `invalid boot device '${order.find((device) => !DISK_OR_NET.test(device))}'`;
};
const hotplugFeatures: Format = (value) =>
  /^[01]$/.test(value) ||
  value.split(/[,; ]+/).every((one) => /^(network|disk|cpu|memory|usb|cloudinit)$/.test(one))
    ? undefined
    : 'unable to parse hotplug option';
const cpuSet: Format = (value) =>
  /^\d+(-\d+)?(,\d+(-\d+)?)*$/.test(value) ? undefined : `value does not look like a valid CPU set`;
export const ipv6Config: Format = (value) =>
  /^(auto|dhcp|manual|[0-9a-f:]+\/\d{1,3})$/i.test(value)
    ? undefined
    : 'value does not look like a valid ipv6 network configuration';
export const ipv6: Format = (value) =>
  /^[0-9a-f:]*:[0-9a-f:.]*$/i.test(value) ? undefined : 'value does not look like a valid IPv6 address';

/** A model may be written as a key whose value is the MAC: `virtio=BC:24:11:...`. */
const NET_MODELS = [
  ...['e1000', 'e1000-82540em', 'e1000-82544gc', 'e1000-82545em', 'e1000e', 'i82551', 'i82557b'],
  ...['i82559er', 'ne2k_isa', 'ne2k_pci', 'pcnet', 'rtl8139', 'virtio', 'vmxnet3'],
];
export const NET: ParamSpec = properties({
  model: { type: 'string', enum: NET_MODELS, defaultKey: true },
  macaddr: { type: 'string', optional: true, format: FORMATS['mac-addr'] },
  ...Object.fromEntries(
    NET_MODELS.map((model): [string, PropertySpec] => [
      model,
      { type: 'string', alias: 'macaddr', keyAlias: 'model' },
    ]),
  ),
  bridge: { type: 'string', optional: true, format: FORMATS['pve-bridge-id'] },
  queues: count(0, 64),
  rate: { type: 'number', optional: true, minimum: 0 },
  tag: count(1, 4094),
  trunks: matching(ONE_OR_MORE),
  firewall: OPTIONAL_FLAG,
  link_down: OPTIONAL_FLAG,
  mtu: count(1, 65_520),
});
export const AGENT = properties({
  enabled: { type: 'boolean', defaultKey: true },
  'freeze-fs': { ...OPTIONAL_FLAG, version: '9.1' },
  'freeze-fs-on-backup': { type: 'boolean', alias: 'freeze-fs' },
  'guest-fsfreeze': { type: 'boolean', alias: 'freeze-fs' },
  fstrim_cloned_disks: OPTIONAL_FLAG,
  type: oneOf('virtio', 'isa'),
});
export const AUDIO = properties({
  device: { type: 'string', enum: ['ich9-intel-hda', 'intel-hda', 'AC97'] },
  driver: oneOf('spice', 'none'),
});
export const BOOT: ParamSpec = { ...OPTIONAL_TEXT, format: bootOrder };
export const BOOT_DISK: ParamSpec = {
  ...matching(/^(ide|sata|scsi|virtio)\d+$/),
  format: (value) =>
    /^(ide[0-3]|sata[0-5]|scsi([12]?[0-9]|30)|virtio([0-9]|1[0-5]))$/.test(value)
      ? undefined
      : `invalid boot disk '${value}'`,
};
export const CPU_SET: ParamSpec = { ...OPTIONAL_TEXT, format: cpuSet };
export const CICUSTOM = properties(
  Object.fromEntries(
    ['meta', 'network', 'user', 'vendor'].map((part) => [part, { ...OPTIONAL_TEXT, format: volumeId }]),
  ),
);
export const CPU = properties({
  cputype: { type: 'string', optional: true, defaultKey: true, pattern: /^[\w.-]+$/ },
  flags: matching(/^[+-][\w-]+(;[+-][\w-]+)*$/),
  'guest-phys-bits': count(32, 64),
  hidden: OPTIONAL_FLAG,
  'hv-vendor-id': matching(/^[a-zA-Z0-9]{1,12}$/),
  'phys-bits': matching(/^(host|[0-9]{1,2})$/),
  'reported-model': matching(/^[\w.-]+$/),
});
export const HOSTPCI = properties({
  host: { type: 'string', optional: true, defaultKey: true },
  mapping: { ...OPTIONAL_TEXT, format: FORMATS['pve-configid'] },
  ...Object.fromEntries(
    ['device-id', 'vendor-id', 'sub-device-id', 'sub-vendor-id'].map((key) => [
      key,
      matching(/^0x[0-9a-fA-F]{4}$/),
    ]),
  ),
  driver: { ...oneOf('vfio', 'keep'), version: '9.1' },
  'legacy-igd': OPTIONAL_FLAG,
  mdev: OPTIONAL_TEXT,
  pcie: OPTIONAL_FLAG,
  rombar: OPTIONAL_FLAG,
  romfile: OPTIONAL_TEXT,
  'x-vga': OPTIONAL_FLAG,
});
export const HOTPLUG: ParamSpec = { ...OPTIONAL_TEXT, format: hotplugFeatures };
export const IPCONFIG = properties({
  gw: { type: 'string', optional: true, format: FORMATS.ipv4, requires: 'ip' },
  gw6: { type: 'string', optional: true, format: ipv6, requires: 'ip6' },
  ip: { type: 'string', optional: true, format: FORMATS['pve-ipv4-config'] },
  ip6: { type: 'string', optional: true, format: ipv6Config },
});
export const IVSHMEM = properties({
  name: matching(/^[a-zA-Z0-9-]+$/),
  size: { type: 'integer', minimum: 1 },
});
export const MACHINE = properties({
  'aw-bits': { type: 'number', optional: true, minimum: 32, maximum: 64, version: '9.1' },
  'enable-s3': OPTIONAL_FLAG,
  'enable-s4': OPTIONAL_FLAG,
  type: {
    type: 'string',
    optional: true,
    maxLength: 40,
    defaultKey: true,
    pattern:
      /^(pc|pc(-i440fx)?-\d+(\.\d+)+(\+pve\d+)?(\.pxe)?|q35|pc-q35-\d+(\.\d+)+(\+pve\d+)?(\.pxe)?|virt(?:-\d+(\.\d+)+)?(\+pve\d+)?)$/,
  },
  viommu: oneOf('intel', 'virtio'),
});
export const MEMORY = properties({ current: { type: 'integer', minimum: 16, defaultKey: true } });
export const NUMA = properties({
  cpus: { type: 'string', pattern: ONE_OR_MORE },
  hostnodes: matching(ONE_OR_MORE),
  memory: { type: 'number', optional: true },
  policy: oneOf('preferred', 'bind', 'interleave'),
});
export const RNG = properties({
  source: { type: 'string', defaultKey: true, enum: ['/dev/urandom', '/dev/random', '/dev/hwrng'] },
  max_bytes: OPTIONAL_COUNT,
  period: OPTIONAL_COUNT,
});
export const SEV = properties({
  type: { type: 'string', defaultKey: true, enum: ['std', 'es', 'snp'] },
  'allow-smt': OPTIONAL_FLAG,
  'kernel-hashes': OPTIONAL_FLAG,
  'no-debug': OPTIONAL_FLAG,
  'no-key-sharing': OPTIONAL_FLAG,
});
export const TDX: ParamSpec = {
  ...properties({
    type: { type: 'string', optional: true, defaultKey: true, pattern: /^tdx$/ },
    attestation: OPTIONAL_FLAG,
    'vsock-cid': count(2),
    'vsock-port': count(0),
  }),
  version: '9.1',
};
export const SMBIOS: ParamSpec = {
  ...properties({
    uuid: matching(/^[a-fA-F0-9]{8}(?:-[a-fA-F0-9]{4}){3}-[a-fA-F0-9]{12}$/),
    base64: OPTIONAL_FLAG,
    ...Object.fromEntries(
      ['family', 'manufacturer', 'product', 'serial', 'sku', 'version'].map((key) => [
        key,
        matching(/^[A-Za-z0-9+/]+={0,2}$/),
      ]),
    ),
  }),
  maxLength: 512,
};
export const SPICE = properties({
  foldersharing: OPTIONAL_FLAG,
  videostreaming: oneOf('off', 'all', 'filter'),
});
export const USB = properties({
  host: {
    type: 'string',
    optional: true,
    defaultKey: true,
    pattern: /^(?:(?:0x)?[0-9A-Fa-f]{4}:(?:0x)?[0-9A-Fa-f]{4}|\d+-\d+(?:\.\d+)*|[Ss][Pp][Ii][Cc][Ee])$/,
  },
  mapping: { ...OPTIONAL_TEXT, format: FORMATS['pve-configid'] },
  usb3: OPTIONAL_FLAG,
});
export const VGA = properties({
  clipboard: oneOf('vnc'),
  memory: count(4, 512),
  type: {
    type: 'string',
    optional: true,
    enum: [
      ...['cirrus', 'qxl', 'qxl2', 'qxl3', 'qxl4', 'none', 'serial0', 'serial1', 'serial2', 'serial3'],
      ...['std', 'virtio', 'virtio-gl', 'vmware'],
    ],
    defaultKey: true,
  },
});
export const VIRTIOFS = properties({
  cache: oneOf('auto', 'always', 'metadata', 'never'),
  'direct-io': OPTIONAL_FLAG,
  dirid: { type: 'string', defaultKey: true, format: FORMATS['pve-configid'] },
  'expose-acl': OPTIONAL_FLAG,
  'expose-xattr': OPTIONAL_FLAG,
});
export const WATCHDOG = properties({
  model: { ...oneOf('i6300esb', 'ib700'), defaultKey: true },
  action: oneOf('reset', 'shutdown', 'poweroff', 'pause', 'debug', 'none'),
});
