import { createHash } from 'node:crypto';
import type { SimulatorContext } from '../context.js';
import type { RawLine, WorldGuest } from '../world.js';
import type { RandomStream } from '../seed.js';
import { textOf } from './lxc-config-file.js';
import { specOfContainerKey } from './lxc-keys.js';
import { specOfKey } from './qemu-keys.js';

const DISK_KEY = /^(scsi|virtio|sata|ide|efidisk|tpmstate|unused|mp)[0-9]+$|^rootfs$/;

/** One section of a virtual machine's config file: description as leading comment lines, then the keys in order. */
function renderSection(config: Readonly<Record<string, string>>): string {
  const { description, ...rest } = config;
  const comment = (description ?? '')
    .split('\n')
    .filter((line, index, all) => line !== '' || index < all.length - 1)
    .map((line) => `#${encodeURI(line)}\n`)
    .join('');
  const keys = Object.keys(rest)
    .sort()
    .map((key) => `${key}: ${rest[key]}\n`)
    .join('');
  return comment + keys;
}

/** A virtual machine's config file: what runs, what waits, the snapshots. */
function renderConfig(guest: WorldGuest): string {
  const waiting = Object.entries(guest.pending);
  const pending = waiting
    .map(([key, value]) => (value === null ? `delete: ${key}\n` : `${key}: ${value}\n`))
    .sort()
    .join('');
  const snapshots = [...guest.snapshots].map(
    ([name, { config, description, time, parent }]) =>
      `\n[${name}]\n${renderSection({ ...config, description })}${parent === undefined ? '' : `parent: ${parent}\n`}snaptime: ${time}\n`,
  );
  return [
    renderSection(guest.config),
    ...(waiting.length === 0 ? [] : [`\n[PENDING]\n${pending}`]),
    ...snapshots,
  ].join('');
}

/** SHA-1 of the file, what PVE calls `digest`. */
export function digestOf(guest: WorldGuest): string {
  const text = guest.kind === 'lxc' ? textOf(guest) : renderConfig(guest);
  return createHash('sha1').update(text).digest('hex');
}

/** `virtio=BC:..,bridge=vmbr0,tag=5` or `model=virtio,macaddr=..`, with the model and the MAC under their own names. */
export function parseNet(text: string): {
  model: string;
  mac: string | undefined;
  rest: Map<string, string>;
} {
  const rest = new Map<string, string>();
  let model = '';
  let mac: string | undefined;
  for (const part of text.split(',')) {
    const [key = '', value] = part.split(/=(.*)/s);
    if (key === 'model') model = value ?? '';
    else if (key === 'macaddr' || key === 'hwaddr') mac = value;
    else if (/^(virtio|e1000e?|rtl8139|vmxnet3|ne2k_pci|ne2k_isa|i8255[79]er|i82551|pcnet)$/.test(key)) {
      model = key;
      mac = value;
    } else rest.set(key, value ?? '');
  }
  return { model, mac, rest };
}

/** Puts a network device in PVE's own form; without a MAC it draws one of its prefix. */
export function normaliseNet(text: string, random: RandomStream): string {
  const { model, mac, rest } = parseNet(text);
  const more = [...rest].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, value]) => `,${key}=${value}`);
  return `${model || 'virtio'}=${(mac ?? randomMac(random)).toUpperCase()}${more.join('')}`;
}

/** Puts a container's network device in PVE's own form; without a MAC it draws one of its prefix. */
export function normaliseContainerNet(text: string, random: RandomStream): string {
  const { mac, rest } = parseNet(text);
  const { name = '', ...others } = Object.fromEntries(rest);
  return formatDisk(`name=${name}`, { ...others, hwaddr: mac ?? randomMac(random), type: 'veth' });
}

export function randomMac(random: RandomStream): string {
  return `BC:24:11:${random
    .hex(6)
    .toUpperCase()
    .replace(/(..)(..)(..)/, '$1:$2:$3')}`;
}

/** MAC of net0 in lower case, or `undefined`. */
export function macOf(guest: WorldGuest): string | undefined {
  const net = guest.config['net0'];
  return net === undefined ? undefined : parseNet(net).mac?.toLowerCase();
}

export interface DiskLine {
  readonly key: string;
  /** `ceph:vm-105-disk-0`. */
  readonly volid: string;
  readonly storage: string;
  readonly options: Readonly<Record<string, string>>;
  readonly isCloudInit: boolean;
}

/** The drives that own a volume, by key. */
export function disksOf(config: Readonly<Record<string, string>>): DiskLine[] {
  return Object.keys(config)
    .filter((key) => DISK_KEY.test(key))
    .sort()
    .flatMap((key) => parseDisk(key, config[key] ?? '') ?? []);
}

function parseDisk(key: string, text: string): DiskLine | undefined {
  const [volid = '', ...parts] = text.split(',');
  const colon = volid.indexOf(':');
  if (colon < 0 || volid.startsWith('/')) return undefined;
  const options = Object.fromEntries(
    parts.map((part) => {
      const [name = '', value = ''] = part.split(/=(.*)/s);
      return [name, value];
    }),
  );
  const isCloudInit = /cloudinit/.test(volid);
  if (options['media'] === 'cdrom' && !isCloudInit) return undefined;
  return { key, volid, storage: volid.slice(0, colon), options, isCloudInit };
}

/** A property string: what comes first, then the other keys in order. */
export function formatDisk(volid: string, options: Readonly<Record<string, string>>): string {
  const more = Object.keys(options)
    .sort()
    .map((key) => `,${key}=${options[key]}`);
  return volid + more.join('');
}

/** As in the config: whole GiB if it is. */
export function sizeText(gib: number): string {
  return Number.isInteger(gib) ? `${gib}G` : `${Math.round(gib * 1024)}M`;
}

/** `20G` in GiB. */
export function sizeGiB(text: string): number {
  const match = /^([0-9]+(?:\.[0-9]+)?)([KMGT]?)$/.exec(text);
  if (!match) return 0;
  const factor = { '': 1 / 1024 ** 3, K: 1 / 1024 ** 2, M: 1 / 1024, G: 1, T: 1024 }[
    match[2] as '' | 'K' | 'M' | 'G' | 'T'
  ];
  return Number(match[1]) * factor;
}

/** What waits for the next start becomes the config. */
export function applyPending(guest: WorldGuest): void {
  for (const [key, value] of Object.entries(guest.pending)) setKey(guest, key, value);
  guest.pending = {};
}

/** Writes one key (`null` removes it); a drive whose volume goes leaves it behind as `unused`. */
export function setKey(guest: WorldGuest, key: string, value: string | null): void {
  const [before] = disksOf({ [key]: guest.config[key] ?? '' });
  if (value === null) delete guest.config[key];
  else guest.config[key] = value;
  const isGone =
    before && !before.isCloudInit && !disksOf(guest.config).some(({ volid }) => volid === before.volid);
  if (isGone && !key.startsWith('unused')) guest.config[freeUnused(guest)] = before.volid;
}

function freeUnused({ config }: WorldGuest): string {
  let n = 0;
  while (config[`unused${n}`] !== undefined) n += 1;
  return `unused${n}`;
}

/** Config as GET shows it: passwords masked, whole numbers and flags as numbers, a description that ends in a newline. */
export function shownKeys(
  config: Readonly<Record<string, string>>,
  kind: WorldGuest['kind'],
): Record<string, string | number> {
  const shown: Record<string, string | number> = {};
  for (const [key, value] of Object.entries(config)) {
    if (key === 'cipassword') shown[key] = '**********';
    else if (key === 'description') shown[key] = value.endsWith('\n') ? value : `${value}\n`;
    else shown[key] = isNumeric(key, kind) ? Number(value) : value;
  }
  return shown;
}

function isNumeric(key: string, kind: WorldGuest['kind']): boolean {
  const type = (kind === 'lxc' ? specOfContainerKey(key) : specOfKey(key))?.type;
  return type === 'integer' || type === 'boolean';
}

/** Pending changes merged unless `current`. */
export function shownConfig(guest: WorldGuest, current: boolean): Record<string, unknown> {
  const merged = { ...guest.config };
  if (!current)
    for (const [key, value] of Object.entries(guest.pending)) {
      if (value === null) delete merged[key];
      else merged[key] = value;
    }
  return { ...shownKeys(merged, guest.kind), ...shownLines(guest.rawLines), digest: digestOf(guest) };
}

/** The `lxc.*` lines as GET shows them. */
export function shownLines(lines: readonly RawLine[]): { lxc?: readonly RawLine[] } {
  return lines.length === 0 ? {} : { lxc: lines };
}

/** The mark line that a deployment writes last into the description, for the journal. */
export function markLine(guest: WorldGuest): string | undefined {
  const last = guest.config['description']?.trimEnd().split('\n').at(-1);
  return last?.startsWith('[hatchery ') ? last : undefined;
}

export function agentEnabled(guest: WorldGuest): boolean {
  return /^(1|enabled=1)(,|$)/.test(guest.config['agent'] ?? '');
}

/** Which QEMU made it and when. */
export function metaLine({ world, clock }: SimulatorContext): string {
  const qemu = world.version === '8.4' ? '9.2.0' : '10.1.2';
  return `creation-qemu=${qemu},ctime=${clock.unixSeconds()}`;
}
