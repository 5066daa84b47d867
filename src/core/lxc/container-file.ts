import type { RawLine } from './raw-lines.js';

/** A container's config file as Proxmox VE writes it, read apart. */
export interface ContainerFile {
  /** Text above the keys, unescaped. */
  readonly description: string;
  /** Keys of the main part that are not raw, in order of the file. */
  readonly keys: ReadonlyMap<string, string>;
  readonly rawLines: readonly RawLine[];
  /** Lines of the main part that are none of these: an editor's slip, which the cluster drops at its next write. */
  readonly others: readonly string[];
  /** Snapshots and pending changes, from the first `[` on, as they are. */
  readonly sections: string;
}

const KEY_LINE = /^([a-z][a-z0-9_]*):\s*(.*?)\s*$/;
const RAW_LINE = /^(lxc\.[a-zA-Z0-9_.-]+)\s*[:=]\s*(.*?)\s*$/;

/** Reads a config file. Any text has a reading: what makes no sense is in `others`. */
export function parseContainerFile(text: string): ContainerFile {
  const at = /^\[/m.exec(text)?.index ?? text.length;
  const description: string[] = [];
  const keys = new Map<string, string>();
  const rawLines: RawLine[] = [];
  const others: string[] = [];
  for (const line of text.slice(0, at).split('\n')) {
    const raw = RAW_LINE.exec(line);
    const key = KEY_LINE.exec(line);
    if (line.startsWith('#')) description.push(unescapeText(line.slice(1)));
    else if (raw) rawLines.push([raw[1]!, raw[2]!]);
    else if (key) keys.set(key[1]!, key[2]!);
    else if (line.trim() !== '') others.push(line);
  }
  return { description: description.join('\n'), keys, rawLines, others, sections: text.slice(at) };
}

/** The cluster writes `:` and what is not plain ASCII as %XX; text that holds a stray `%` was written by a person. */
function unescapeText(line: string): string {
  try {
    return decodeURIComponent(line);
  } catch {
    return line;
  }
}

/** Whether everything but the raw lines is the same in both: what else a change touched is not ours to touch. */
export function differsElsewhere(before: ContainerFile, after: ContainerFile): string | undefined {
  if (before.description !== after.description) return 'its description';
  if (before.sections !== after.sections) return 'its snapshots or pending changes';
  if (before.others.join('\n') !== after.others.join('\n')) return 'lines that are no keys';
  for (const key of new Set([...before.keys.keys(), ...after.keys.keys()]))
    if (before.keys.get(key) !== after.keys.get(key)) return `its key ${key}`;
  return undefined;
}
