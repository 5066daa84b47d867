import { volumeKey, type WorldGuest } from '../world.js';
import { need, needAny } from './auth.js';
import { copyBlocks } from './copy-blocks.js';
import { disksOf, formatDisk, sizeGiB, sizeText } from './guest-config.js';
import type { LockUser } from './locks.js';
import type { Pve, PveCall } from './pve.js';
import { allocate, storageOf, usableStorage, volumeOf } from './volumes.js';
import { failure, forbidden, parameterErrors } from './wire.js';

const DRIVE_KEY = /^(?:(?:scsi|virtio|sata|ide|unused)[0-9]+|efidisk0|tpmstate0|cdrom)$/;
const NEW_DISK = /^(?:([^/:\s]+):)?([0-9]+(?:\.[0-9]+)?)$/;
const CLOUD_INIT = /^(?:([^/:\s]+):)?cloudinit$/;
/** Of firmware and TPM: the size in the request does not count. */
const FIXED_GIB: Readonly<Record<string, number>> = { efidisk0: 4 / 1024, tpmstate0: 4 / 1024 };

export function isDrive(key: string): boolean {
  return DRIVE_KEY.test(key);
}

/** What somebody wants at a drive: a new disk, a new cloud-init drive, an image or nothing in a CD drive, a volume that is there. */
interface DriveRequest {
  readonly kind: 'new' | 'cloudinit' | 'cdrom' | 'empty' | 'existing';
  readonly file: string;
  readonly storage: string | undefined;
  readonly sizeGiB: number;
  readonly importFrom: string | undefined;
  readonly options: Readonly<Record<string, string>>;
}

export function readDrive(text: string): DriveRequest {
  let file = '';
  const options: Record<string, string> = {};
  for (const part of text.split(',')) {
    const [key = '', value] = part.split(/=(.*)/s);
    if (value === undefined) file = key;
    else if (key === 'file' || key === 'volume') file = value;
    else options[key] = value;
  }
  const { 'import-from': importFrom, ...rest } = options;
  const base = { file, importFrom, options: rest };
  const cloudInit = CLOUD_INIT.exec(file);
  const made = NEW_DISK.exec(file);
  const storage = file.includes(':') ? file.slice(0, file.indexOf(':')) : undefined;
  if (cloudInit) return { ...base, kind: 'cloudinit', storage: cloudInit[1], sizeGiB: 4 / 1024 };
  if (file === 'none' || file === 'cdrom') return { ...base, kind: 'empty', storage: undefined, sizeGiB: 0 };
  if (rest['media'] === 'cdrom') {
    const kind = /vm-[0-9]+-cloudinit/.test(file) ? 'existing' : 'cdrom';
    return { ...base, kind, storage, sizeGiB: 0 };
  }
  if (made) return { ...base, kind: 'new', storage: made[1], sizeGiB: Number(made[2]) };
  return { ...base, kind: 'existing', storage, sizeGiB: 0 };
}

/** What is refused before anything is done: syntax, rights on storages, content. */
export function checkDrive(
  { pve, account, node }: Pick<PveCall, 'pve' | 'account' | 'node'>,
  vmid: number,
  key: string,
  text: string,
): void {
  const drive = readDrive(text);
  if (drive.importFrom !== undefined) checkImport(key, drive, account.isRoot);
  if (drive.file === 'cdrom') need(account, '/', 'Sys.Console');
  if (drive.kind === 'empty') return;
  if (drive.file.startsWith('/')) {
    if (!account.isRoot) throw failure('Only root can pass arbitrary filesystem paths.');
    return;
  }
  if (drive.storage === undefined) throw failure('no storage ID specified (and no default storage)');
  if (drive.kind === 'new' || drive.kind === 'cloudinit') {
    need(account, `/storage/${drive.storage}`, 'Datastore.AllocateSpace');
    if (!storageOf(pve, drive.storage).content.includes('images'))
      throw parameterErrors({ storage: `storage '${drive.storage}' does not support vm images` });
  } else if (drive.kind === 'cdrom')
    needAny(account, `/storage/${drive.storage}`, 'Datastore.Audit', 'Datastore.AllocateSpace');
  else if (volumeOf(pve, drive.file, node)?.vmid !== vmid)
    need(account, `/storage/${drive.storage}`, 'Datastore.Allocate');
}

function checkImport(key: string, drive: DriveRequest, isRoot: boolean): void {
  if (drive.kind !== 'new' || drive.sizeGiB !== 0)
    throw parameterErrors({
      [key]: "'import-from' requires special syntax - use <storage ID>:0,import-from=<source>",
    });
  if (drive.importFrom?.startsWith('/') && !isRoot)
    throw forbidden('Only root can pass arbitrary filesystem paths.');
}

/** Makes or attaches what was asked for and gives the value that the config gets; new volumes are added to `made`. */
export async function placeDrive(
  pve: Pve,
  user: LockUser,
  guest: WorldGuest,
  key: string,
  text: string,
  made: string[],
): Promise<string> {
  const drive = readDrive(text);
  if (drive.kind === 'empty') return formatDisk(drive.file, { ...drive.options, media: 'cdrom' });
  if (drive.kind === 'cloudinit' || drive.kind === 'new') {
    const storage = usableStorage(pve, drive.storage ?? '', guest.node);
    const isCloudInit = drive.kind === 'cloudinit';
    const other = disksOf(guest.config).find((disk) => disk.isCloudInit && disk.key !== key);
    if (isCloudInit && other)
      throw failure(`${key} - cloud-init drive is already attached at '${other.key}'`);
    const source = drive.importFrom === undefined ? undefined : sourceOf(pve, guest, drive.importFrom);
    const wantedGiB = source?.sizeGiB ?? FIXED_GIB[key] ?? drive.sizeGiB;
    const { format, ...options } = drive.options;
    const volid = await allocate(pve, user, storage, {
      vmid: guest.vmid,
      node: guest.node,
      sizeGiB: wantedGiB,
      usedGiB: source?.usedGiB ?? 0,
      isCloudInit,
      format: format ?? (isCloudInit ? 'qcow2' : 'raw'),
    });
    made.push(volid);
    if (source) await copyBlocks(pve, user, storage, wantedGiB);
    const value = formatDisk(
      volid,
      isCloudInit ? { ...options, media: 'cdrom' } : { ...options, size: sizeText(wantedGiB) },
    );
    user.log?.(`${key}: successfully created disk '${value}'`);
    return value;
  }
  if (drive.kind === 'cdrom') {
    const storage = usableStorage(pve, drive.storage ?? '', guest.node);
    if (!pve.world.files.has(volumeKey(storage.shared ? undefined : guest.node, drive.file)))
      throw failure(`volume '${drive.file}' does not exist`);
    return formatDisk(drive.file, drive.options);
  }
  const volume = volumeOf(pve, drive.file, guest.node);
  if (!volume) throw failure(`volume '${drive.file}' does not exist`);
  for (const [name, value] of Object.entries(guest.config))
    if (/^unused[0-9]+$/.test(name) && value === drive.file && name !== key) delete guest.config[name];
  return formatDisk(drive.file, { ...drive.options, size: sizeText(volume.sizeGiB) });
}

/** A volume of a guest, or a file that was uploaded: its text says how large the disk in it is (`10G`). */
function sourceOf(pve: Pve, guest: WorldGuest, volid: string): { sizeGiB: number; usedGiB: number } {
  const volume = volumeOf(pve, volid, guest.node);
  if (volume) return volume;
  const storage = storageOf(pve, volid.slice(0, volid.indexOf(':')));
  const file = pve.world.files.get(volumeKey(storage.shared ? undefined : guest.node, volid));
  if (!file) throw failure(`volume '${volid}' does not exist`);
  const virtualGiB = sizeGiB(file.text.trim()) || 2;
  return { sizeGiB: virtualGiB, usedGiB: virtualGiB / 4 };
}
