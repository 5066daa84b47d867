import type { WorldGuest } from '../world.js';
import { drawMs, drawStorageMs } from './durations.js';
import { formatDisk, sizeGiB, sizeText } from './guest-config.js';
import type { LockUser } from './locks.js';
import type { Pve } from './pve.js';
import { allocate, usableStorage, volumeOf } from './volumes.js';
import { failure } from './wire.js';

const NEW_VOLUME = /^(?:([^/:\s]+):)?([0-9]+(?:\.[0-9]+)?)$/;

/** What somebody wants at `rootfs` or a mount point. */
interface MountRequest {
  /** A new volume, one that is there, a folder or a device of the node. */
  readonly kind: 'new' | 'existing' | 'bind' | 'device';
  readonly volume: string;
  readonly storage: string | undefined;
  readonly sizeGiB: number;
  readonly options: Readonly<Record<string, string>>;
}

/** `defaultStorage` is for a size alone, as the creation of a container takes it. */
export function readMount(text: string, defaultStorage?: string): MountRequest {
  let volume = '';
  const options: Record<string, string> = {};
  for (const part of text.split(',')) {
    const [key = '', value] = part.split(/=(.*)/s);
    if (value === undefined) volume = key;
    else if (key === 'volume') volume = value;
    else options[key] = value;
  }
  if (volume.startsWith('/')) {
    const kind = volume.startsWith('/dev/') ? 'device' : 'bind';
    return { kind, volume, storage: undefined, sizeGiB: 0, options };
  }
  const made = NEW_VOLUME.exec(volume);
  if (made)
    return { kind: 'new', volume, storage: made[1] ?? defaultStorage, sizeGiB: Number(made[2]), options };
  const storage = volume.includes(':') ? volume.slice(0, volume.indexOf(':')) : undefined;
  return { kind: 'existing', volume, storage, sizeGiB: sizeGiB(options['size'] ?? '0'), options };
}

/** As errors and permissions call it. */
export function mountType({ kind }: MountRequest): 'volume' | 'bind' | 'device' {
  return kind === 'bind' || kind === 'device' ? kind : 'volume';
}

/** Makes or takes what was asked for and gives the value that the config gets; new volumes are added to `made`. */
export async function placeMount(
  pve: Pve,
  user: LockUser,
  guest: Pick<WorldGuest, 'vmid' | 'node'>,
  mount: MountRequest,
  made: string[],
): Promise<string> {
  if (mount.kind === 'bind' || mount.kind === 'device') return formatMount(mount.volume, mount.options);
  const storage = usableStorage(pve, mount.storage ?? '', guest.node);
  if (mount.kind === 'existing') {
    const volume = volumeOf(pve, mount.volume, guest.node);
    if (!volume) throw failure(`volume '${mount.volume}' does not exist`);
    return formatMount(mount.volume, { ...mount.options, size: sizeText(volume.sizeGiB) });
  }
  const volid = await allocate(pve, user, storage, {
    vmid: guest.vmid,
    node: guest.node,
    sizeGiB: mount.sizeGiB,
    usedGiB: 0,
    format: 'raw',
    isContainer: true,
  });
  made.push(volid);
  await pve.context.clock.sleep(drawMs(pve.context, 'make-file-system', guest.vmid), user.signal);
  return formatMount(volid, { ...mount.options, size: sizeText(mount.sizeGiB) });
}

/** As PVE prints it: the volume, then where it is mounted, then the rest. */
export function formatMount(volume: string, options: Readonly<Record<string, string>>): string {
  const { mp, ...rest } = options;
  return formatDisk(mp === undefined ? volume : `${volume},mp=${mp}`, rest);
}

/** Unpacks an archive onto a storage. More than four at once on one node share what it can do. */
export async function unpack(pve: Pve, user: LockUser, storageId: string, vmid: number): Promise<void> {
  const storage = usableStorage(pve, storageId, user.node);
  const others = pve.tasks.runningOn(user.node).filter(({ type }) => type === 'vzcreate').length;
  const load = Math.max(1, others / 4);
  await pve.context.clock.sleep(drawStorageMs(pve.context, storage, 'unpack', vmid) * load, user.signal);
}
