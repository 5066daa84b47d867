import type { RawLine, WorldGuest, WorldSnapshot } from '../world.js';

/** One section of a container's config file. */
interface Section {
  readonly config: Record<string, string>;
  readonly rawLines: RawLine[];
}

/** `lxc.*` keys that Proxmox VE lets through; all others that begin so are dropped. */
const RAW_KEYS = new Set([
  ...['apparmor.profile', 'apparmor.allow_incomplete', 'apparmor.allow_nesting', 'apparmor.raw', 'arch'],
  ...['autodev', 'autodev.tmpfs.size', 'cap.drop', 'cap.keep', 'console.buffer.size', 'console.logfile'],
  ...['console.path', 'console.size', 'devtty.dir', 'environment', 'ephemeral', 'execute.cmd', 'group'],
  ...['hook.autodev', 'hook.clone', 'hook.destroy', 'hook.mount', 'hook.post-stop', 'hook.pre-mount'],
  ...['hook.pre-start', 'hook.start', 'hook.start-host', 'hook.stop', 'hook.version', 'idmap', 'include'],
  ...['init.cmd', 'init.cwd', 'init.gid', 'init.uid', 'kmsg', 'log.file', 'log.level', 'log.syslog'],
  ...['monitor.unshare', 'mount.auto', 'mount.entry', 'mount.fstab', 'no_new_privs', 'pty.max'],
  ...['rootfs.mount', 'seccomp.allow_nesting', 'seccomp.notify.cookie', 'seccomp.notify.proxy'],
  ...['seccomp.profile', 'selinux.context', 'signal.halt', 'signal.reboot', 'signal.stop', 'start.auto'],
  ...['start.delay', 'start.order', 'tty.dir', 'tty.max', 'uts.name'],
]);
const RAW_FAMILIES = /^(?:cgroup2?|namespace|net|prlimit|proc|sysctl)\./;
const REFUSED: Readonly<Record<string, string>> = {
  'rootfs.path': 'lxc.rootfs.path is auto generated from rootfs',
  'rootfs.options': 'lxc.rootfs.options is not supported, please use mount point options in the "rootfs" key',
};

/** What a container's config file holds now. */
export function textOf(guest: WorldGuest): string {
  const rendered = render(guest);
  return guest.handWritten?.rendered === rendered ? guest.handWritten.text : rendered;
}

/** Somebody wrote the whole file: the guest is what the file says from now on. Gives what Proxmox VE warns about whenever it reads it. */
export function writeText(guest: WorldGuest, text: string): string[] {
  const { main, pending, snapshots, warnings } = parse(guest.vmid, text);
  guest.config = main.config;
  guest.rawLines = main.rawLines;
  guest.pending = pending;
  for (const name of guest.snapshots.keys()) if (!snapshots.has(name)) guest.snapshots.delete(name);
  for (const [name, section] of snapshots)
    guest.snapshots.set(name, snapshotOf(section, guest.snapshots.get(name)));
  guest.handWritten = { text, rendered: render(guest) };
  return warnings;
}

function snapshotOf({ config, rawLines }: Section, known: WorldSnapshot | undefined): WorldSnapshot {
  const { description = '', snaptime = '0', parent, ...keys } = config;
  return {
    config: keys,
    rawLines,
    description,
    time: Number(snaptime),
    parent,
    state: undefined,
    sizesGiB: known?.sizesGiB ?? {},
    files: known?.files ?? new Map(),
  };
}

/** As the API writes it: description, sorted keys, `lxc.*` lines; then what waits, then the snapshots. */
function render(guest: WorldGuest): string {
  const deleted = Object.keys(guest.pending).filter((key) => guest.pending[key] === null);
  const waiting = Object.entries(guest.pending).filter(
    (entry): entry is [string, string] => entry[1] !== null,
  );
  const pending = {
    ...Object.fromEntries(waiting),
    ...(deleted.length === 0 ? {} : { delete: deleted.sort().join(',') }),
  };
  const snapshots = [...guest.snapshots]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, { config, rawLines, description, time, parent }]) => {
      const keys = {
        ...config,
        description,
        snaptime: String(time),
        ...(parent === undefined ? {} : { parent }),
      };
      return `\n[${name}]\n${renderSection({ config: keys, rawLines })}`;
    });
  return [
    renderSection(guest),
    ...(Object.keys(pending).length === 0
      ? []
      : [`\n[pve:pending]\n${renderSection({ config: pending, rawLines: [] })}`]),
    ...snapshots,
  ].join('');
}

function renderSection({ config, rawLines }: Pick<WorldGuest, 'config' | 'rawLines'>): string {
  const { description = '', ...rest } = config;
  const comment = description.replace(/\n+$/, '').split('\n');
  return [
    ...(description === '' ? [] : comment.map((line) => `#${encodeText(line)}\n`)),
    ...Object.keys(rest)
      .sort()
      .map((key) => `${key}: ${rest[key]}\n`),
    ...rawLines.map(([key, value]) => `${key}: ${value}\n`),
  ].join('');
}

interface Parsed {
  readonly main: Section;
  readonly pending: Record<string, string | null>;
  readonly snapshots: ReadonlyMap<string, Section>;
  readonly warnings: string[];
}

function parse(vmid: number, text: string): Parsed {
  const main = newSection();
  const waiting = newSection();
  const snapshots = new Map<string, Section>();
  const warnings: string[] = [];
  let section = main;
  for (const line of text.split('\n')) {
    if (/^\s*$/.test(line)) continue;
    const name = /^\[([a-z][a-z0-9_-]+|pve:pending)\]\s*$/i.exec(line)?.[1];
    if (name === undefined) {
      const warning = readLine(section, line);
      if (warning !== undefined) warnings.push(`vm ${vmid} - ${warning}`);
    } else if (name.toLowerCase() === 'pve:pending') section = waiting;
    else {
      section = newSection();
      snapshots.set(name, section);
    }
  }
  const { delete: deleted = '', ...set } = waiting.config;
  const gone = deleted.split(/[,;\s]+/).filter((key) => key !== '');
  return {
    main,
    pending: { ...set, ...Object.fromEntries(gone.map((key) => [key, null])) },
    snapshots,
    warnings,
  };
}

const newSection = (): Section => ({ config: {}, rawLines: [] });

/** Gives what is wrong with the line, which is dropped then. */
function readLine({ config, rawLines }: Section, line: string): string | undefined {
  const comment = /^#(.*)$/.exec(line);
  if (comment) {
    const text = decodeText(comment[1] ?? '');
    config['description'] = config['description'] === undefined ? text : `${config['description']}\n${text}`;
    return undefined;
  }
  const raw = /^lxc\.([a-z0-9_.-]+)(?::|\s*=)\s*(.*?)\s*$/.exec(line);
  if (raw) {
    const [, name = '', value = ''] = raw;
    if (REFUSED[name] !== undefined) return `lxc.${name}: ${REFUSED[name]}`;
    if (!RAW_KEYS.has(name) && !RAW_FAMILIES.test(name)) return `unable to parse config: ${line}`;
    rawLines.push([`lxc.${name}`, value]);
    return undefined;
  }
  const pair = /^([a-z][a-z_]*\d*):\s*(.+?)\s*$/.exec(line);
  if (!pair) return `unable to parse config: ${line}`;
  config[pair[1]!] = pair[1] === 'description' ? decodeText(pair[2]!) : pair[2]!;
  return undefined;
}

/** Everything but printable ASCII, and `%` and `:` of that, by its bytes. */
function encodeText(text: string): string {
  return text.replace(/[^ -$&-9;-~]/gu, (character) =>
    [...Buffer.from(character)]
      .map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`)
      .join(''),
  );
}

function decodeText(text: string): string {
  const bytes = Buffer.from(text).toString('latin1');
  const raw = bytes.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  return Buffer.from(raw, 'latin1').toString();
}
