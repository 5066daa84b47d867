import { createHash } from 'node:crypto';
import type { JournalEntry } from '../../journal.js';
import { holdsFiles, volumeKey, type NodeFileMode, type WorldGuest } from '../../world.js';
import { FLOCK_MS, lockFile } from '../guest-task.js';
import { macOf, markLine } from '../guest-config.js';
import { textOf, writeText } from '../lxc-config-file.js';
import type { Pve } from '../pve.js';
import { PveError } from '../wire.js';
import { HelperRefusal, type FileRequest, type HelperRequest } from './helper-request.js';

export interface HelperOutcome {
  readonly answer: Readonly<Record<string, unknown>>;
  readonly journal?: Partial<JournalEntry>;
}

interface Place {
  readonly pve: Pve;
  /** The node that runs it. */
  readonly node: string;
  readonly actor: string;
}

const OURS = '/var/lib/hatchery';
const REPORT_TAIL = 16_384;

/** Does what `bin/hatchery-node` does, on the simulated node. Errors: `HelperRefusal`. */
export async function runHelper(place: Place, request: HelperRequest): Promise<HelperOutcome> {
  switch (request.op) {
    case 'describe':
      return {
        answer: {
          node: place.node,
          uid: 0,
          isProxmox: true,
          hasQuorum: !place.pve.world.conditions.quorumLost,
        },
      };
    case 'config.read': {
      const guest = containerOn(place, request);
      return { answer: guest ? { found: true, config: configOf(textOf(guest)) } : { found: false } };
    }
    case 'config.raw-lines':
      return replaceRawLines(place, request);
    case 'id-ranges':
      return { answer: { ...place.pve.world.subIds.get(place.node) } };
    case 'snippets.list':
      return { answer: { names: snippetsOf(place, request.storage) } };
    case 'reports.read':
      return { answer: { tails: tailsOf(place, request.names) } };
    case 'path.resolve':
      return { answer: resolvePath(place, request.path) };
    default:
      return workOnFile(place, request);
  }
}

// --- configs of containers

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
const sha1 = (text: string): string => createHash('sha1').update(text).digest('hex');
const configOf = (text: string): { text: string; digest: string } => ({
  text: Buffer.from(text).toString('base64'),
  digest: sha1(text),
});

/** A config that is hidden is not there for the file system either. */
function containerOn(
  { pve, node }: Place,
  { node: meant, vmid }: { readonly node: string; readonly vmid: number },
): WorldGuest | undefined {
  if (meant !== node) throw new HelperRefusal('wrong-node', `this node is ${node}`);
  const guest = pve.world.guests.get(vmid);
  const isHere = guest?.kind === 'lxc' && guest.node === node && !pve.conditions.isConfigHidden(vmid);
  return isHere ? guest : undefined;
}

async function replaceRawLines(
  place: Place,
  request: Extract<HelperRequest, { op: 'config.raw-lines' }>,
): Promise<HelperOutcome> {
  const { pve, node, actor } = place;
  const { vmid, digest, lines } = request;
  const path = `/etc/pve/nodes/${node}/lxc/${vmid}.conf`;
  containerOn(place, request);
  const user = { actor, node, vmid };
  return pve.files
    .with(user, lockFile(vmid, 'lxc'), 'exclusive', FLOCK_MS, async () => {
      const guest = containerOn(place, request);
      if (guest === undefined) throw new HelperRefusal('not-found', `${path} is not there`);
      const text = textOf(guest);
      const [, main = '', sections] = /^([\s\S]*?)(^\[[\s\S]*)?$(?![\s\S])/m.exec(text) ?? [];
      const lock = /^lock:\s*(\S+)/m.exec(main)?.[1];
      if (lock !== undefined) throw new HelperRefusal('locked', `CT is locked (${lock})`, { lock });
      if (sha1(text) !== digest)
        throw new HelperRefusal(
          'digest-mismatch',
          'detected modified configuration - file changed by other user? Try again.',
        );
      const kept = main
        .replace(/\n+$/, '')
        .split('\n')
        .filter((line) => !/^lxc\.[a-z0-9_.-]+(?::|\s*=)/.test(line));
      const raw = lines.map(([key, value]) => `${key}: ${value}`);
      const wanted = [...kept, ...raw, ...(sections === undefined ? [''] : ['', sections])].join('\n');
      const hasChanged = wanted !== text;
      if (hasChanged) {
        if (pve.world.conditions.quorumLost)
          throw new HelperRefusal('no-quorum', `${path}.tmp.4711: Permission denied`);
        writeText(guest, wanted);
      }
      return {
        answer: { config: configOf(wanted), changed: hasChanged },
        journal: {
          effect: hasChanged,
          incarnation: guest.incarnation,
          digestBefore: sha1(text),
          digestAfter: sha1(wanted),
          params: {
            lines: lines.length,
            mac: macOf(guest),
            mark: markLine(guest),
            name: guest.config['hostname'],
          },
        },
      };
    })
    .catch((error: unknown) => {
      if (error instanceof PveError) throw new HelperRefusal('lock-timeout', error.message);
      throw error;
    });
}

// --- files of ours

/** A file of a node, wherever the world keeps it. */
interface Shelf {
  readonly path: string;
  /** Each node has one of its own. */
  readonly isLocal: boolean;
  read(): { readonly bytes: Buffer; readonly mode: NodeFileMode } | undefined;
  write(bytes: Buffer, mode: NodeFileMode): void;
  remove(): boolean;
}

function workOnFile(place: Place, request: FileRequest): HelperOutcome {
  const shelf = shelfOf(place, request);
  const there = shelf.read();
  const fileOf = (bytes: Buffer, mode: NodeFileMode): Record<string, unknown> => ({
    path: shelf.path,
    sha256: sha256(bytes),
    mode,
  });
  const resource = shelf.isLocal ? `${place.node}:${shelf.path}` : shelf.path;
  switch (request.op) {
    case 'file.read':
      if (there === undefined) return { answer: { found: false }, journal: { resource } };
      return {
        answer: {
          found: true,
          file: fileOf(there.bytes, there.mode),
          content: there.bytes.toString('base64'),
        },
        journal: { resource },
      };
    case 'file.remove':
      return { answer: { existed: shelf.remove() }, journal: { resource, effect: there !== undefined } };
    case 'file.put': {
      const bytes = Buffer.from(request.content, 'base64');
      if (sha256(bytes) !== request.sha256) throw new HelperRefusal('malformed', 'the content is not whole');
      const { mode } = request;
      const isThere = there?.mode === mode && (request.keeps || there.bytes.equals(bytes));
      if (!isThere) shelf.write(bytes, mode);
      return {
        answer: { file: fileOf(isThere ? there.bytes : bytes, mode), changed: !isThere },
        journal: { resource, effect: !isThere },
      };
    }
  }
}

/** Names of ours. */
function snippetsOf(place: Place, storage: string): string[] {
  const { isLocal } = shelfOf(place, { op: 'file.read', place: 'snippets', storage, name: 'hatchery' });
  const node = isLocal ? place.node : undefined;
  const volumes = [...place.pve.world.files.values()].filter(
    (file) => file.storage === storage && file.content === 'snippets' && file.node === node,
  );
  return volumes
    .map(({ volid }) => volid.slice(volid.indexOf('/') + 1))
    .filter((name) => name.startsWith('hatchery'))
    .sort();
}

/** The ends of reports that are there. */
function tailsOf(place: Place, names: readonly string[]): Record<string, string> {
  const tails: Record<string, string> = {};
  for (const name of names) {
    const report = shelfOf(place, { op: 'file.read', place: 'reports', name }).read();
    if (report !== undefined) tails[name] = report.bytes.subarray(-REPORT_TAIL).toString('base64');
  }
  return tails;
}

function shelfOf({ pve, node }: Place, { place, storage, name }: FileRequest): Shelf {
  const { nodeFiles, files, storages } = pve.world;
  if (place !== 'snippets') {
    const path = `${OURS}/${place}/${name}`;
    const key = volumeKey(node, path);
    return {
      path,
      isLocal: true,
      read() {
        const file = nodeFiles.get(key);
        return file && { bytes: Buffer.from(file.base64, 'base64'), mode: file.mode };
      },
      write: (bytes, mode) => void nodeFiles.set(key, { base64: bytes.toString('base64'), mode }),
      remove: () => nodeFiles.delete(key),
    };
  }
  if (storage === undefined) throw new HelperRefusal('malformed', 'storage is no storage');
  if (!name.startsWith('hatchery'))
    throw new HelperRefusal('malformed', 'snippets of ours begin with hatchery');
  const volid = `${storage}:snippets/${name}`;
  const found = storages.find(({ id, nodes }) => id === storage && (nodes?.includes(node) ?? true));
  if (found === undefined || !holdsFiles(found) || !found.content.includes('snippets') || found.isDisabled)
    throw new HelperRefusal('no-storage', `this node knows no path for ${volid}`);
  const owner = found.shared ? undefined : node;
  const key = volumeKey(owner, volid);
  return {
    path: `${found.type === 'dir' ? '/var/lib/vz' : `/mnt/pve/${storage}`}/snippets/${name}`,
    isLocal: !found.shared,
    read() {
      const file = files.get(key);
      return file && { bytes: Buffer.from(file.text), mode: file.mode ?? 'readable' };
    },
    write: (bytes, mode) =>
      void files.set(key, { volid, storage, node: owner, content: 'snippets', text: bytes.toString(), mode }),
    remove: () => files.delete(key),
  };
}

// --- what the node is like

/** Links are followed; below a mounted file system every folder is there. */
function resolvePath({ pve }: Place, asked: string): Record<string, unknown> {
  const { mounts, links } = pve.world;
  let path = normal(asked);
  for (let hops = 0; hops < 40; hops += 1) {
    const link = [...links].find(([from]) => path === from || path.startsWith(`${from}/`));
    if (link === undefined) break;
    const [from, to] = link;
    path = normal(to + path.slice(from.length));
  }
  const mount = mounts
    .filter((one) => path === one || path.startsWith(`${one}/`))
    .sort((a, b) => b.length - a.length)[0];
  const isFolder =
    path === '/' || ['/home', '/srv', '/mnt', '/etc', '/etc/pve', '/root', '/var/lib/vz'].includes(path);
  if (mount === undefined && !isFolder) return { found: false };
  return { found: true, path, isDirectory: true, mount: mount ?? '/' };
}

/** Without `.`, `..` and empty parts. */
function normal(path: string): string {
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return `/${parts.join('/')}`;
}
