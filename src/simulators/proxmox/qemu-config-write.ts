import { createHash } from 'node:crypto';
import type { WorldGuest } from '../world.js';
import { disksOf, normaliseNet, setKey } from './guest-config.js';
import type { LockUser } from './locks.js';
import type { Pve } from './pve.js';
import { isDrive, placeDrive } from './qemu-drives.js';
import { isLive } from './qemu-keys.js';
import { free } from './volumes.js';
import { failure } from './wire.js';

/** Value of a key as the config keeps it. */
export function storedValue(pve: Pve, vmid: number, key: string, value: string): string {
  if (/^net[0-9]+$/.test(key)) return normaliseNet(value, pve.context.random.stream('net', vmid));
  return key === 'cipassword' ? hashedPassword(value) : value;
}

/** Never the password itself; without a salt, so that a test can tell whether it is the one that it expects. */
export function hashedPassword(password: string): string {
  return `$5$simulated$${createHash('sha256').update(password).digest('base64url')}`;
}

/** Sets one key, at once or for the next start. */
export async function writeKey(
  pve: Pve,
  user: LockUser,
  guest: WorldGuest,
  key: string,
  value: string,
): Promise<void> {
  const stored = isDrive(key)
    ? await placeDrive(pve, user, guest, key, value, [])
    : storedValue(pve, guest.vmid, key, value);
  if (guest.status === 'running' && !isLive(key, guest.config['hotplug'])) {
    if (guest.config[key] === stored) delete guest.pending[key];
    else guest.pending[key] = stored;
    return;
  }
  delete guest.pending[key];
  setKey(guest, key, stored);
}

/** Removes one key. A disk stays as `unused` unless `force`; an unused one and a cloud-init drive are freed. */
export async function removeKey(
  pve: Pve,
  user: LockUser,
  guest: WorldGuest,
  key: string,
  force: boolean,
): Promise<void> {
  if (guest.config[key] === undefined) {
    if (guest.pending[key] === undefined)
      user.log?.(`cannot delete '${key}' - not set in current configuration!`);
    delete guest.pending[key];
    return;
  }
  const [disk] = isDrive(key) ? disksOf({ [key]: guest.config[key] }) : [];
  if (disk && guest.config['protection'] === '1')
    throw failure(
      key.startsWith('unused')
        ? `can't remove unused disk '${disk.volid}' - protection mode enabled`
        : `can't remove drive '${key}' - protection mode enabled`,
    );
  if (guest.status === 'running' && !isLive(key, guest.config['hotplug'])) {
    guest.pending[key] = null;
    return;
  }
  delete guest.pending[key];
  if (disk && (force || disk.isCloudInit || key.startsWith('unused'))) {
    if (!isInSnapshot(guest, disk.volid)) await free(pve, user, disk.volid, guest.vmid);
    delete guest.config[key];
  } else setKey(guest, key, null);
}

function isInSnapshot(guest: WorldGuest, volid: string): boolean {
  return [...guest.snapshots.values()].some(({ config }) =>
    disksOf(config).some((disk) => disk.volid === volid),
  );
}
