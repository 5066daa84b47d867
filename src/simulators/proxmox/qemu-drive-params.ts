import { FORMATS } from './formats.js';
import type { ParamSpec, PropertySpec } from './params.js';

type Properties = Readonly<Record<string, PropertySpec>>;

const flag: PropertySpec = { type: 'boolean', optional: true };
const integer: PropertySpec = { type: 'integer', optional: true };
const seconds: PropertySpec = { type: 'integer', optional: true, minimum: 1 };
const number: PropertySpec = { type: 'number', optional: true };
const oneOf = (...values: string[]): PropertySpec => ({ type: 'string', optional: true, enum: values });
const encoded = (maxLength: number): PropertySpec => ({
  type: 'string',
  optional: true,
  maxLength,
  format: FORMATS.urlencoded,
});

/** `storage:name`. */
export const VOLUME_ID = /^[a-z][a-z0-9\-_.]*[a-z0-9]:.+$/i;

function volumeOrPath(value: string): string | undefined {
  const isKnown = value === 'none' || value === 'cdrom' || value.startsWith('/') || VOLUME_ID.test(value);
  return isKnown || /^[0-9]+(\.[0-9]+)?$/.test(value) ? undefined : 'unable to parse volume ID';
}

function volumeOrAbsolute(value: string): string | undefined {
  return value.startsWith('/') || VOLUME_ID.test(value)
    ? undefined
    : `'${value}' is not a valid volume ID or absolute path`;
}

export function volumeId(value: string): string | undefined {
  return VOLUME_ID.test(value) ? undefined : `unable to parse volume ID '${value}'`;
}

/** `bps` and `iops` for reads, writes and both; the lengths have an older name. */
function throttles(): Properties {
  const found: Record<string, PropertySpec> = {};
  for (const kind of ['', '_rd', '_wr']) {
    found[`bps${kind}`] = integer;
    found[`bps${kind}_max_length`] = seconds;
    found[`iops${kind}`] = integer;
    found[`iops${kind}_max`] = integer;
    found[`iops${kind}_max_length`] = seconds;
    found[`mbps${kind}`] = number;
    found[`mbps${kind}_max`] = number;
  }
  for (const name of ['bps_rd', 'bps_wr', 'iops_rd', 'iops_wr'])
    found[`${name}_length`] = { type: 'integer', alias: `${name}_max_length` };
  return found;
}

const FILE: Properties = {
  file: { type: 'string', defaultKey: true, format: volumeOrPath },
  volume: { type: 'string', alias: 'file' },
};
const IMPORT: Properties = {
  'import-from': { type: 'string', optional: true, format: volumeOrAbsolute },
};
const SIZE: PropertySpec = { type: 'string', optional: true, format: FORMATS['disk-size'] };
const FORMAT = oneOf('raw', 'qcow', 'qed', 'qcow2', 'vmdk', 'cloop');
const WWN: PropertySpec = { type: 'string', optional: true, pattern: /^(0x)[0-9a-fA-F]{16}$/ };

const COMMON: Properties = {
  ...FILE,
  ...IMPORT,
  ...throttles(),
  aio: oneOf('native', 'threads', 'io_uring'),
  backup: flag,
  cache: oneOf('none', 'writethrough', 'writeback', 'unsafe', 'directsync'),
  detect_zeroes: flag,
  discard: oneOf('ignore', 'on'),
  format: FORMAT,
  media: oneOf('cdrom', 'disk'),
  replicate: flag,
  rerror: oneOf('ignore', 'report', 'stop'),
  serial: encoded(60),
  shared: flag,
  size: SIZE,
  snapshot: flag,
  werror: oneOf('enospc', 'ignore', 'report', 'stop'),
};

const drive = (properties: Properties): ParamSpec => ({ type: 'string', optional: true, properties });

export const IDE: ParamSpec = drive({ ...COMMON, model: encoded(120), ssd: flag, wwn: WWN });

/** Disks of a guest. */
export const DRIVE_PARAMS: Readonly<Record<string, ParamSpec>> = {
  'ide[n]': IDE,
  'sata[n]': drive({ ...COMMON, ssd: flag, wwn: WWN }),
  'scsi[n]': drive({
    ...COMMON,
    iothread: flag,
    product: { type: 'string', optional: true, pattern: /^[A-Za-z0-9\-_\s]{0,16}$/ },
    queues: { type: 'integer', optional: true, minimum: 2 },
    ro: flag,
    scsiblock: flag,
    ssd: flag,
    vendor: { type: 'string', optional: true, pattern: /^[A-Za-z0-9\-_\s]{0,8}$/ },
    wwn: WWN,
  }),
  'virtio[n]': drive({ ...COMMON, iothread: flag, ro: flag }),
  efidisk0: drive({
    ...FILE,
    ...IMPORT,
    efitype: oneOf('2m', '4m'),
    format: FORMAT,
    'ms-cert': { ...oneOf('2011', '2023', '2023w', '2023k'), version: '9.1' },
    'pre-enrolled-keys': flag,
    size: SIZE,
  }),
  tpmstate0: drive({
    ...FILE,
    ...IMPORT,
    format: oneOf('raw', 'qcow2', 'vmdk'),
    size: SIZE,
    version: oneOf('v1.2', 'v2.0'),
  }),
  'unused[n]': drive({
    file: { type: 'string', defaultKey: true, format: volumeId },
    volume: { type: 'string', alias: 'file' },
  }),
};
