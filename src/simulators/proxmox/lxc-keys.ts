import { FORMATS } from './formats.js';
import * as formats from './lxc-formats.js';
import { OPTIONAL_COUNT, OPTIONAL_DESCRIPTION, OPTIONAL_FLAG, OPTIONAL_TEXT } from './params.js';
import type { ParamSpec, ParamSpecs } from './params.js';
import { volumeId } from './qemu-drive-params.js';
import { count, oneOf } from './qemu-formats.js';

const HOSTNAME: ParamSpec = { ...OPTIONAL_TEXT, format: FORMATS['dns-name'], maxLength: 255 };

/** The keys of a container's config by the privilege that writing them needs. `value` = it depends on the value; see lxc-rights.ts. */
const BY_PRIVILEGE: Readonly<Record<string, ParamSpecs>> = {
  'VM.Config.CPU': {
    cores: count(1, 8_192),
    cpulimit: { type: 'number', optional: true, minimum: 0, maximum: 8_192 },
    cpuunits: count(0, 500_000),
  },
  'VM.Config.Memory': { memory: count(16), swap: OPTIONAL_COUNT },
  'VM.Config.Network': {
    hostname: HOSTNAME,
    nameserver: formats.NAMESERVERS,
    'net[n]': formats.CONTAINER_NET,
    searchdomain: { ...OPTIONAL_TEXT, list: true, format: FORMATS['dns-name'] },
  },
  'VM.Config.Options': {
    arch: oneOf('amd64', 'i386', 'arm64', 'armhf', 'riscv32', 'riscv64'),
    cmode: oneOf('shell', 'console', 'tty'),
    console: OPTIONAL_FLAG,
    debug: OPTIONAL_FLAG,
    description: OPTIONAL_DESCRIPTION,
    entrypoint: formats.ENTRYPOINT,
    env: formats.ENVIRONMENT,
    lock: oneOf(
      ...['backup', 'create', 'destroyed', 'disk', 'fstrim', 'migrate', 'mounted', 'rollback', 'snapshot'],
      'snapshot-delete',
    ),
    onboot: OPTIONAL_FLAG,
    ostype: oneOf(
      ...['debian', 'devuan', 'ubuntu', 'centos', 'fedora', 'opensuse', 'archlinux', 'alpine', 'gentoo'],
      ...['nixos', 'unmanaged'],
    ),
    protection: OPTIONAL_FLAG,
    startup: { ...OPTIONAL_TEXT, format: FORMATS['pve-startup-order'] },
    tags: { ...OPTIONAL_TEXT, list: true, format: FORMATS['pve-tag'] },
    template: OPTIONAL_FLAG,
    timezone: formats.TIMEZONE,
    tty: count(0, 6),
    unprivileged: OPTIONAL_FLAG,
    'unused[n]': formats.UNUSED,
  },
  value: {
    'dev[n]': formats.DEVICE,
    features: formats.FEATURES,
    hookscript: { ...OPTIONAL_TEXT, format: volumeId },
    'mp[n]': formats.MOUNT_POINT,
    rootfs: formats.ROOTFS,
  },
};

export const LXC_CONFIG_PARAMS: ParamSpecs = Object.assign({}, ...Object.values(BY_PRIVILEGE)) as ParamSpecs;

export const LXC_CONFIG_PRIVILEGES = ['Disk', 'CPU', 'Memory', 'Network', 'Options'].map(
  (what) => `VM.Config.${what}`,
);

/** Specification of a key of the config; `undefined` = no such key. */
export function specOfContainerKey(key: string): ParamSpec | undefined {
  return LXC_CONFIG_PARAMS[nameOf(key)];
}

/** The privilege that writing a key needs, or `value`. */
export function privilegeFor(key: string): string {
  const name = nameOf(key);
  return (
    Object.keys(BY_PRIVILEGE).find((one) => Object.hasOwn(BY_PRIVILEGE[one]!, name)) ?? 'VM.Config.Options'
  );
}

function nameOf(key: string): string {
  return Object.hasOwn(LXC_CONFIG_PARAMS, key) ? key : key.replace(/[0-9]+$/, '[n]');
}

export function isMount(key: string): boolean {
  return /^(?:rootfs|mp[0-9]+)$/.test(key);
}

const FAST = new Set([
  ...['cores', 'cpulimit', 'cpuunits', 'description', 'hookscript', 'hostname', 'lock', 'memory', 'onboot'],
  ...['protection', 'startup', 'swap', 'tags'],
]);

/** Keys that take effect at once while it runs; the others wait for its next start. A mount point does only if it is a new one. */
export function isLiveInContainer(key: string, isThere: boolean): boolean {
  return FAST.has(key) || /^(?:net|unused)[0-9]+$/.test(key) || (/^mp[0-9]+$/.test(key) && !isThere);
}
