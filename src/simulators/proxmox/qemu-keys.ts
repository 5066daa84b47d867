import { FORMATS } from './formats.js';
import {
  OPTIONAL_COUNT,
  OPTIONAL_DESCRIPTION,
  OPTIONAL_DNS_NAME,
  OPTIONAL_FLAG,
  OPTIONAL_TEXT,
} from './params.js';
import type { ParamSpec, ParamSpecs } from './params.js';
import { DRIVE_PARAMS, IDE, volumeId } from './qemu-drive-params.js';
import * as formats from './qemu-formats.js';
import { count, matching, oneOf } from './qemu-formats.js';

/**
 * The keys of a qemu config that can be written, by the privileges of which one is needed; `root` = only a ticket of root@pam.
 * `value` = it depends on the value: `privilegesOfValue`.
 */
const BY_PRIVILEGE: Readonly<Record<string, ParamSpecs>> = {
  'VM.Config.CPU': {
    cores: count(1),
    cpu: formats.CPU,
    cpulimit: { type: 'number', optional: true, minimum: 0, maximum: 128 },
    cpuunits: count(1, 262_144),
    numa: OPTIONAL_FLAG,
    'numa[n]': formats.NUMA,
    smp: count(1),
    sockets: count(1),
    vcpus: count(1),
  },
  'VM.Config.Memory': {
    'allow-ksm': { ...OPTIONAL_FLAG, version: '9.1' },
    balloon: OPTIONAL_COUNT,
    memory: formats.MEMORY,
    shares: count(0, 50_000),
  },
  'VM.Config.Network': { 'net[n]': formats.NET },
  'VM.Config.Cloudinit|VM.Config.Network': {
    cicustom: formats.CICUSTOM,
    cipassword: OPTIONAL_TEXT,
    citype: oneOf('configdrive2', 'nocloud', 'opennebula'),
    ciupgrade: OPTIONAL_FLAG,
    ciuser: OPTIONAL_TEXT,
    'ipconfig[n]': formats.IPCONFIG,
    nameserver: { ...OPTIONAL_TEXT, list: true, format: FORMATS.address },
    searchdomain: OPTIONAL_TEXT,
    sshkeys: { ...OPTIONAL_TEXT, format: FORMATS.urlencoded },
  },
  'VM.Config.Disk': {
    boot: formats.BOOT,
    bootdisk: formats.BOOT_DISK,
    vmstatestorage: { ...OPTIONAL_TEXT, format: FORMATS['pve-storage-id'] },
  },
  'VM.Config.HWType': {
    acpi: OPTIONAL_FLAG,
    'amd-sev': formats.SEV,
    audio0: formats.AUDIO,
    hotplug: formats.HOTPLUG,
    'intel-tdx': formats.TDX,
    kvm: OPTIONAL_FLAG,
    machine: formats.MACHINE,
    rng0: formats.RNG,
    scsihw: oneOf('lsi', 'lsi53c810', 'virtio-scsi-pci', 'virtio-scsi-single', 'megasas', 'pvscsi'),
    smbios1: formats.SMBIOS,
    spice_enhancements: formats.SPICE,
    tablet: OPTIONAL_FLAG,
    vga: formats.VGA,
    'virtiofs[n]': formats.VIRTIOFS,
    vmgenid: matching(/^(?:[a-fA-F0-9]{8}(?:-[a-fA-F0-9]{4}){3}-[a-fA-F0-9]{12}|[01])$/),
    watchdog: formats.WATCHDOG,
  },
  'VM.Config.Options': {
    agent: formats.AGENT,
    autostart: OPTIONAL_FLAG,
    bios: oneOf('seabios', 'ovmf'),
    description: OPTIONAL_DESCRIPTION,
    keyboard: oneOf(
      ...['de', 'de-ch', 'da', 'en-gb', 'en-us', 'es', 'fi', 'fr', 'fr-be', 'fr-ca', 'fr-ch', 'hu', 'is'],
      ...['it', 'ja', 'lt', 'mk', 'nl', 'no', 'pl', 'pt', 'pt-br', 'sv', 'sl', 'tr'],
    ),
    localtime: OPTIONAL_FLAG,
    migrate_downtime: { type: 'number', optional: true, minimum: 0 },
    migrate_speed: OPTIONAL_COUNT,
    name: OPTIONAL_DNS_NAME,
    onboot: OPTIONAL_FLAG,
    ostype: oneOf(
      ...['other', 'wxp', 'w2k', 'w2k3', 'w2k8', 'wvista', 'win7', 'win8', 'win10', 'win11', 'l24', 'l26'],
      'solaris',
    ),
    protection: OPTIONAL_FLAG,
    reboot: OPTIONAL_FLAG,
    startdate: matching(/^(now|\d{4}-\d{1,2}-\d{1,2}(T\d{1,2}:\d{1,2}:\d{1,2})?)$/),
    startup: { ...OPTIONAL_TEXT, format: FORMATS['pve-startup-order'] },
    tags: { ...OPTIONAL_TEXT, list: true, format: FORMATS['pve-tag'] },
    tdf: OPTIONAL_FLAG,
    template: OPTIONAL_FLAG,
  },
  'VM.PowerMgmt': { freeze: OPTIONAL_FLAG },
  value: {
    ...DRIVE_PARAMS,
    cdrom: IDE,
    'hostpci[n]': formats.HOSTPCI,
    'serial[n]': matching(/^(\/dev\/.+|socket)$/),
    'usb[n]': formats.USB,
  },
  root: {
    affinity: formats.CPU_SET,
    arch: oneOf('x86_64', 'aarch64'),
    args: OPTIONAL_TEXT,
    hookscript: { ...OPTIONAL_TEXT, format: volumeId },
    hugepages: oneOf('any', '2', '1024'),
    ivshmem: formats.IVSHMEM,
    keephugepages: OPTIONAL_FLAG,
    lock: oneOf(
      ...['backup', 'clone', 'create', 'migrate', 'rollback', 'snapshot', 'snapshot-delete'],
      ...['suspending', 'suspended'],
    ),
    'parallel[n]': matching(/^(\/dev\/parport\d+|\/dev\/usb\/lp\d+)$/),
  },
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

/** Specification of a key of the config; `undefined` = no such key. */
export function specOfKey(key: string): ParamSpec | undefined {
  const name = nameOf(QEMU_CONFIG_PARAMS, key);
  return name === undefined ? undefined : QEMU_CONFIG_PARAMS[name];
}

function nameOf(specs: ParamSpecs, key: string): string | undefined {
  if (Object.hasOwn(specs, key)) return key;
  const indexed = key.replace(/[0-9]+$/, '[n]');
  return indexed !== key && Object.hasOwn(specs, indexed) ? indexed : undefined;
}

/** Privileges of which one is needed to write `key`; `root` = nobody but a root ticket, `value` = see the value. */
export function privilegesFor(key: string): readonly string[] {
  for (const [privileges, specs] of Object.entries(BY_PRIVILEGE))
    if (nameOf(specs, key) !== undefined) return privileges.split('|');
  return ['root'];
}

const CLOUD_INIT = new Set(Object.keys(BY_PRIVILEGE['VM.Config.Cloudinit|VM.Config.Network'] ?? {}));

/** Keys that go into the cloud-init drive and have no other meaning. */
export function isCloudInitKey(key: string): boolean {
  return CLOUD_INIT.has(key) || /^ipconfig[0-9]+$/.test(key);
}

const FAST = new Set([
  ...['description', 'hookscript', 'hotplug', 'lock', 'migrate_downtime', 'migrate_speed', 'name', 'onboot'],
  ...['protection', 'shares', 'startup', 'tags', 'vmstatestorage'],
]);

/** Keys that take effect at once on a running guest, given its `hotplug`; the others wait for its next start. */
export function isLive(key: string, hotplug: string | undefined): boolean {
  if (FAST.has(key) || isCloudInitKey(key) || /^unused[0-9]+$/.test(key)) return true;
  if (['balloon', 'cpuunits', 'cpulimit'].includes(key)) return true;
  const features = (hotplug === '1' ? undefined : hotplug)?.split(/[,; ]+/) ?? ['network', 'disk', 'usb'];
  if (/^net[0-9]+$/.test(key)) return features.includes('network');
  if (/^(scsi|virtio)[0-9]+$/.test(key)) return features.includes('disk');
  return /^usb[0-9]+$/.test(key) && features.includes('usb');
}
