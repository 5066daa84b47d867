import { HatcheryError } from '../errors.js';

/** One `lxc.*` line of a container's config file, e.g. `['lxc.idmap', 'u 0 100000 65536']`. They stand in no API: only root on the node writes them. */
export type RawLine = readonly [key: string, value: string];

/** `count` ids from `inside` on in the container are those from `outside` on of the node. */
export interface IdMapping {
  readonly of: 'u' | 'g';
  readonly inside: number;
  readonly outside: number;
  readonly count: number;
}

/** Something of the node that the container sees too. Snapshots and clones stay possible, which an `mpN` with a folder of the node would forbid. */
export interface HostMount {
  /** Absolute path on the node. */
  readonly source: string;
  /** Absolute path in the container; made when missing. */
  readonly target: string;
  readonly kind: 'dir' | 'file';
  readonly readOnly: boolean;
  /** The container starts also when `source` is gone. */
  readonly optional: boolean;
}

/**
 * A script that runs when the container starts: `mount` on the node as the container's root, before its first process; `start` in the container.
 * LXC gives the line to a shell, so path and arguments are words that need no quoting; of a `start` hook it takes the whole line for the path.
 */
export interface HookCall {
  readonly phase: 'mount' | 'start';
  /** Absolute, on the node or in the container. */
  readonly path: string;
  /** More absolute paths; none of a `start` hook. */
  readonly arguments: readonly string[];
}

/** Everything that we ever write as raw lines. */
export interface RawConfig {
  readonly idMappings: readonly IdMapping[];
  readonly mounts: readonly HostMount[];
  readonly hooks: readonly HookCall[];
}

const KEYS = { idMap: 'lxc.idmap', mount: 'lxc.mount.entry', hook: 'lxc.hook.' } as const;

/** Letters, digits, dots, hyphens and underscores: nothing that fstab, LXC or a shell reads in another way; no segment that leads back. */
const PATH = /^(?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9._-]{1,128})+$/;
const PATH_MAX = 1024;

/** Whether a path may stand in a raw line: absolute, plain, without `.` and `..`. */
export const isPlainPath = (path: string): boolean => path.length <= PATH_MAX && PATH.test(path);

/**
 * The lines of a config: mappings, mounts, hooks, each in the given order. What is rendered reads back as the same config.
 * Errors: `request-invalid` for a path or a number that cannot stand in a line.
 */
export function renderRawConfig({ idMappings, mounts, hooks }: RawConfig): RawLine[] {
  return [
    ...idMappings.map(({ of, inside, outside, count }): RawLine => [
      KEYS.idMap,
      `${of} ${id(inside)} ${id(outside)} ${id(count)}`,
    ]),
    ...mounts.map((mount): RawLine => [KEYS.mount, mountEntry(mount)]),
    ...hooks.map((hook): RawLine => [
      `${KEYS.hook}${hook.phase}`,
      [hook.path, ...hook.arguments].map(path).join(' '),
    ]),
  ];
}

function mountEntry({ source, target, kind, readOnly, optional }: HostMount): string {
  const options = ['bind', ...(readOnly ? ['ro'] : []), `create=${kind}`, ...(optional ? ['optional'] : [])];
  // LXC takes the target as relative to the container's root.
  return `${path(source)} ${path(target).slice(1)} none ${options.join(',')} 0 0`;
}

function path(text: string): string {
  if (isPlainPath(text)) return text;
  throw new HatcheryError(
    'request-invalid',
    `Unable to write ${JSON.stringify(text.slice(0, 200))} into the config of a container: it is no plain absolute path`,
    {
      hint: 'Use letters, digits, dots, hyphens and underscores between slashes, and no segment of dots only.',
    },
  );
}

/** Ids are 32 bits wide. */
function id(value: number): number {
  if (Number.isInteger(value) && value >= 0 && value <= 0xff_ff_ff_ff) return value;
  throw new HatcheryError(
    'request-invalid',
    `Unable to write ${value} into the config of a container: it is no user or group id`,
  );
}

/** Reads lines back into the model; what it never writes is in `others`, in order. */
export function parseRawLines(
  lines: readonly RawLine[],
): RawConfig & { readonly others: readonly RawLine[] } {
  const idMappings: IdMapping[] = [];
  const mounts: HostMount[] = [];
  const hooks: HookCall[] = [];
  const others: RawLine[] = [];
  for (const line of lines) {
    const mapping = readIdMapping(line);
    const mount = mapping ?? readMount(line);
    const hook = mount ?? readHook(line);
    if (mapping) idMappings.push(mapping);
    else if (mount && 'source' in mount) mounts.push(mount);
    else if (hook && 'phase' in hook) hooks.push(hook);
    else others.push(line);
  }
  return { idMappings, mounts, hooks, others };
}

function readIdMapping([key, value]: RawLine): IdMapping | undefined {
  const match = /^([ug]) (0|[1-9][0-9]{0,9}) (0|[1-9][0-9]{0,9}) ([1-9][0-9]{0,9})$/.exec(value);
  if (key !== KEYS.idMap || !match) return undefined;
  const [, of, inside, outside, count] = match;
  return {
    of: of as 'u' | 'g',
    inside: Number(inside),
    outside: Number(outside),
    count: Number(count),
  };
}

function readMount([key, value]: RawLine): HostMount | undefined {
  const match = /^(\/\S+) (\S+) none bind(,ro)?,create=(dir|file)(,optional)? 0 0$/.exec(value);
  if (key !== KEYS.mount || !match) return undefined;
  const [, source, target, readOnly, kind, optional] = match;
  if (!isPlainPath(source!) || !isPlainPath(`/${target}`)) return undefined;
  return {
    source: source!,
    target: `/${target}`,
    kind: kind as 'dir' | 'file',
    readOnly: readOnly !== undefined,
    optional: optional !== undefined,
  };
}

function readHook([key, value]: RawLine): HookCall | undefined {
  const phase = key.slice(KEYS.hook.length);
  const words = value.split(' ');
  if (!key.startsWith(KEYS.hook) || (phase !== 'mount' && phase !== 'start')) return undefined;
  return words.every(isPlainPath) ? { phase, path: words[0]!, arguments: words.slice(1) } : undefined;
}

export const rawLineText = ([key, value]: RawLine): string => `${key}: ${value}`;

export const isSameLines = (some: readonly RawLine[], others: readonly RawLine[]): boolean =>
  some.length === others.length && some.every((line, at) => rawLineText(line) === rawLineText(others[at]!));

/**
 * What shall stand in a config that has `found` now: `wanted`, after lines that came along from the template and that the site allows there
 * (`kept`, whole lines). `lines` that are already as wanted give the same lines again.
 * `unknown` = lines that nobody allowed: a template may carry hooks that run as root, so they are never passed over.
 */
export function mergeRawLines(
  found: readonly RawLine[],
  wanted: RawConfig,
  kept: ReadonlySet<string>,
): { readonly lines: readonly RawLine[]; readonly unknown: readonly RawLine[] } {
  const rendered = renderRawConfig(wanted);
  const ours = new Set(rendered.map(rawLineText));
  const carried = found.filter((line) => !ours.has(rawLineText(line)));
  return {
    lines: [...carried.filter((line) => kept.has(rawLineText(line))), ...rendered],
    unknown: carried.filter((line) => !kept.has(rawLineText(line))),
  };
}

/** The lines that stay when exactly `ours` go. */
export function withoutLines(found: readonly RawLine[], ours: readonly RawLine[]): RawLine[] {
  const gone = new Set(ours.map(rawLineText));
  return found.filter((line) => !gone.has(rawLineText(line)));
}
