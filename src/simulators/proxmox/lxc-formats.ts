import { FORMATS, type Format } from './formats.js';
import { OPTIONAL_FLAG, OPTIONAL_TEXT, type ParamSpec, type PropertySpec } from './params.js';
import { volumeId } from './qemu-drive-params.js';
import { count, ipv6, ipv6Config, matching, oneOf } from './qemu-formats.js';

/** Property strings and formats of a container's config. */

const properties = (keys: Readonly<Record<string, PropertySpec>>): ParamSpec => ({
  type: 'string',
  optional: true,
  properties: keys,
});
const MOUNT_OPTIONS = matching(
  /^(?:discard|lazytime|noatime|nodev|noexec|nosuid)(?:;(?:discard|lazytime|noatime|nodev|noexec|nosuid))*$/,
);

const mountPath: Format = (value) =>
  /(?:^|\/)\.\.?(?:\/|$)/.test(value) ? `${value} contains illegal character sequences` : undefined;
const devicePath: Format = (value, version) =>
  mountPath(value, version) ?? (value.startsWith('/dev/') ? undefined : `${value} must start with /dev/`);
const zone: Format = (value) =>
  value === 'host' || /^[A-Za-z0-9_+-]+(?:\/[A-Za-z0-9_+-]+)*$/.test(value)
    ? undefined
    : `invalid time zone '${value}'`;
const nameserver: Format = (value, version) => {
  const [address = '', link] = value.split(/%(.*)/s);
  const isRight = FORMATS.ipv4(address) === undefined || ipv6(address, version) === undefined;
  return isRight && (link === undefined || link !== '')
    ? undefined
    : 'value does not look like a valid IP address with a link-local interface';
};

const VOLUME: Readonly<Record<string, PropertySpec>> = {
  volume: { type: 'string', defaultKey: true, format: mountPath },
  acl: OPTIONAL_FLAG,
  mountoptions: MOUNT_OPTIONS,
  quota: OPTIONAL_FLAG,
  replicate: OPTIONAL_FLAG,
  ro: OPTIONAL_FLAG,
  shared: OPTIONAL_FLAG,
  size: { ...OPTIONAL_TEXT, format: FORMATS['disk-size'] },
};
export const ROOTFS: ParamSpec = properties(VOLUME);
export const MOUNT_POINT: ParamSpec = properties({
  ...VOLUME,
  backup: OPTIONAL_FLAG,
  keepattrs: { ...OPTIONAL_FLAG, version: '9.1' },
  mp: { type: 'string', format: mountPath },
});
export const UNUSED: ParamSpec = properties({
  volume: { type: 'string', defaultKey: true, format: volumeId },
});
export const CONTAINER_NET: ParamSpec = properties({
  bridge: matching(/^[-_.\w]+$/),
  firewall: OPTIONAL_FLAG,
  gw: { ...OPTIONAL_TEXT, format: FORMATS.ipv4 },
  gw6: { ...OPTIONAL_TEXT, format: ipv6 },
  'host-managed': { ...OPTIONAL_FLAG, version: '9.1' },
  hwaddr: { ...OPTIONAL_TEXT, format: FORMATS['mac-addr'] },
  ip: { ...OPTIONAL_TEXT, format: FORMATS['pve-ipv4-config'] },
  ip6: { ...OPTIONAL_TEXT, format: ipv6Config },
  link_down: OPTIONAL_FLAG,
  mtu: count(64, 65_535),
  name: { type: 'string', pattern: /^[-_.\w]+$/ },
  rate: { type: 'number', optional: true },
  tag: count(1, 4094),
  trunks: matching(/^\d+(?:;\d+)*$/),
  type: oneOf('veth'),
});
export const FEATURES: ParamSpec = properties({
  force_rw_sys: OPTIONAL_FLAG,
  fuse: OPTIONAL_FLAG,
  keyctl: OPTIONAL_FLAG,
  mknod: OPTIONAL_FLAG,
  mount: matching(/^[a-zA-Z0-9_; ]+$/),
  nesting: OPTIONAL_FLAG,
});
export const DEVICE: ParamSpec = properties({
  'deny-write': OPTIONAL_FLAG,
  gid: count(0),
  mode: matching(/^0[0-7]{3}$/),
  path: { ...OPTIONAL_TEXT, defaultKey: true, format: devicePath },
  uid: count(0),
});
// Printable: the real patterns refuse control characters.
const PRINTABLE = '[^\\u0000-\\u0008\\u0010-\\u001f\\u007f]';
export const ENTRYPOINT: ParamSpec = { ...matching(new RegExp(`^${PRINTABLE}+$`)), version: '9.1' };
export const ENVIRONMENT: ParamSpec = {
  ...matching(new RegExp(`^\\w+=${PRINTABLE}*(?:\\u0000\\w+=${PRINTABLE}*)*$`)),
  version: '9.1',
};
export const NAMESERVERS: ParamSpec = { ...OPTIONAL_TEXT, list: true, format: nameserver };
export const TIMEZONE: ParamSpec = { ...OPTIONAL_TEXT, format: zone };
