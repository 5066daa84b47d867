import { volumeKey, type WorldGuest } from '../world.js';
import { drawHalfFirstBootMs } from './durations.js';
import { Interrupted } from '../clock.js';
import type { Pve } from './pve.js';
import { failure } from './wire.js';

/** What lxc-start makes of the raw lines of a container: refuses to start with what the kernel refuses, and runs the start hooks in it. */

const OURS = '/var/lib/hatchery/';
/** New ids are mapped by newuidmap and newgidmap, each with a file of its own. */
const MAPPERS = { u: 'uid', g: 'gid' } as const;

interface Mount {
  readonly source: string;
  /** In the container. */
  readonly target: string;
  readonly isOptional: boolean;
}

/** Throws as the task ends; `log` gets what LXC says about it. */
export function checkRawLines(pve: Pve, guest: WorldGuest, log: (line: string) => void): void {
  const problem = mappingProblem(pve, guest) ?? fileProblem(pve, guest) ?? exitProblem(pve, guest);
  if (problem === undefined) return;
  log(problem);
  log(`lxc_start: ${guest.vmid}: Failed to spawn container "${guest.vmid}"`);
  throw failure(`startup for container '${guest.vmid}' failed`);
}

function mappingProblem({ world }: Pve, guest: WorldGuest): string | undefined {
  const maps = valuesOf(guest, 'lxc.idmap').map((value) => {
    const [kind = '', inside, host, count] = value.split(/\s+/);
    return { kind, inside: Number(inside), host: Number(host), count: Number(count) };
  });
  for (const map of maps) {
    const { kind, inside, host, count } = map;
    if ((kind !== 'u' && kind !== 'g') || !Number.isInteger(inside + host + count) || count < 1)
      return `confile: set_config_idmaps: Failed to parse id mappings "${kind}"`;
    const allowed = world.subIds.get(guest.node)?.[MAPPERS[kind]] ?? [];
    if (!allowed.some((range) => host >= range.start && host + count <= range.start + range.count))
      return `new${MAPPERS[kind]}map: ${MAPPERS[kind]} range [${inside}-${inside + count}) -> [${host}-${host + count}) not allowed`;
  }
  for (const map of maps) {
    const others = maps.filter((other) => other !== map && other.kind === map.kind);
    if (others.some((other) => meets(map, other, 'inside') || meets(map, other, 'host'))) {
      const mapper = MAPPERS[map.kind as keyof typeof MAPPERS];
      return `new${mapper}map: write to ${mapper}_map failed: Invalid argument`;
    }
  }
  return undefined;
}

/** A hook that fails ends the start. */
function exitProblem({ world }: Pve, guest: WorldGuest): string | undefined {
  const [hook] = valuesOf(guest, 'lxc.hook.start');
  if (hook === undefined || world.conditions.firstBoots.get(guest.vmid) !== 'exits') return undefined;
  return `Script exec ${hook} ${guest.vmid} lxc start exited with status 1`;
}

function meets(
  a: { readonly inside: number; readonly host: number; readonly count: number },
  b: { readonly inside: number; readonly host: number; readonly count: number },
  side: 'inside' | 'host',
): boolean {
  return a[side] < b[side] + b.count && b[side] < a[side] + a.count;
}

/** Of the places that a world has files in: what others put elsewhere is there. */
function fileProblem({ world }: Pve, guest: WorldGuest): string | undefined {
  const fileAt = (path: string) => world.nodeFiles.get(volumeKey(guest.node, path));
  const isMissing = (path: string): boolean => path.startsWith(OURS) && fileAt(path) === undefined;
  for (const { source, isOptional } of mountsOf(guest))
    if (!isOptional && isMissing(source))
      return `utils: safe_mount: No such file or directory - Failed to mount "${source}"`;
  for (const [key, value] of guest.rawLines) {
    if (!key.startsWith('lxc.hook.')) continue;
    const path = onNode(guest, key, value.split(' ')[0]!);
    if (path === undefined || !path.startsWith(OURS)) continue;
    if (fileAt(path)?.mode !== 'runnable')
      return `Script exec ${value} ${guest.vmid} lxc ${key.slice('lxc.hook.'.length)} produced output: sh: 1: ${value}: ${isMissing(path) ? 'not found' : 'Permission denied'}`;
  }
  return undefined;
}

/** Where a hook's script lies on the node: a start hook is named by its path in the container. */
function onNode(guest: WorldGuest, key: string, path: string): string | undefined {
  if (key !== 'lxc.hook.start') return path;
  return mountsOf(guest).find(({ target }) => target === path)?.source;
}

function mountsOf(guest: WorldGuest): Mount[] {
  return valuesOf(guest, 'lxc.mount.entry').map((value) => {
    const [source = '', target = '', , options = ''] = value.split(/\s+/);
    return { source, target: `/${target}`, isOptional: options.split(',').includes('optional') };
  });
}

const valuesOf = (guest: WorldGuest, key: string): string[] =>
  guest.rawLines.filter(([name]) => name === key).map(([, value]) => value);

/**
 * The start hooks of a container that is up work in it and write into the report that is mounted beside them: `progress`, then `done`,
 * or what a condition says of this guest. A report that says `done` already is left alone.
 */
export function runStartHooks(pve: Pve, guest: WorldGuest): void {
  for (const path of valuesOf(guest, 'lxc.hook.start')) {
    const folder = path.slice(0, path.lastIndexOf('/'));
    const report = mountsOf(guest).find(({ target }) => target === `${folder}/report`)?.source;
    if (report === undefined) continue;
    work(pve, guest, report).catch((error: unknown) => {
      if (!(error instanceof Interrupted)) throw error;
    });
  }
}

async function work(pve: Pve, guest: WorldGuest, report: string): Promise<void> {
  const { clock } = pve.context;
  const { nodeFiles, guests, conditions } = pve.world;
  const { startedAtMs, node } = guest;
  const key = volumeKey(node, report);
  const isUp = (): boolean =>
    guests.get(guest.vmid) === guest && guest.status === 'running' && guest.startedAtMs === startedAtMs;
  const write = (line: string): void => {
    const there = nodeFiles.get(key);
    if (there === undefined || !isUp()) return;
    const text = Buffer.from(there.base64, 'base64').toString() + `${line}\n`;
    nodeFiles.set(key, { ...there, base64: Buffer.from(text).toString('base64') });
  };
  if (
    Buffer.from(nodeFiles.get(key)?.base64 ?? '', 'base64')
      .toString()
      .endsWith('done\n')
  )
    return;
  await clock.sleep(guest.agentUpAtMs - clock.elapsedMs());
  write('progress 10 update the system');
  await clock.sleep(drawHalfFirstBootMs(pve.context, guest.vmid));
  write('progress 60 install packages');
  await clock.sleep(drawHalfFirstBootMs(pve.context, guest.vmid));
  const odd = conditions.firstBoots.get(guest.vmid);
  if (odd === 'hangs') return;
  write(typeof odd === 'object' ? `failed ${odd.fails}` : 'done');
}
