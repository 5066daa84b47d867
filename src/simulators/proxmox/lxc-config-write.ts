import type { WorldGuest } from '../world.js';
import { normaliseContainerNet, setKey } from './guest-config.js';
import type { LockUser } from './locks.js';
import { isLiveInContainer, isMount } from './lxc-keys.js';
import { placeMount, readMount } from './lxc-mounts.js';
import type { Pve } from './pve.js';
import { free } from './volumes.js';

/** Value of a key, other than a mount point, as the config keeps it. */
export function storedContainerValue(pve: Pve, vmid: number, key: string, value: string): string {
  return /^net[0-9]+$/.test(key)
    ? normaliseContainerNet(value, pve.context.random.stream('net', vmid))
    : value;
}

/** Sets one key, at once or for the next start. */
export async function writeKey(
  pve: Pve,
  user: LockUser,
  guest: WorldGuest,
  key: string,
  value: string,
): Promise<void> {
  const isLive = guest.status !== 'running' || isLiveInContainer(key, guest.config[key] !== undefined);
  if (!isLive) {
    if (guest.config[key] === value) delete guest.pending[key];
    else guest.pending[key] = value;
    return;
  }
  delete guest.pending[key];
  await applyKey(pve, user, guest, key, value);
}

async function applyKey(
  pve: Pve,
  user: LockUser,
  guest: WorldGuest,
  key: string,
  value: string,
): Promise<void> {
  const stored = isMount(key)
    ? await placeMount(pve, user, guest, readMount(value), [])
    : storedContainerValue(pve, guest.vmid, key, value);
  for (const [name, volume] of Object.entries(guest.config))
    if (/^unused[0-9]+$/.test(name) && stored.split(',')[0] === volume) delete guest.config[name];
  setKey(guest, key, stored);
}

/** Removes one key. The volume of a mount point stays as `unused`; an unused one is freed. */
export async function removeKey(pve: Pve, user: LockUser, guest: WorldGuest, key: string): Promise<void> {
  delete guest.pending[key];
  const value = guest.config[key];
  if (value === undefined) return;
  if (guest.status === 'running' && !isLiveInContainer(key, true)) {
    guest.pending[key] = null;
    return;
  }
  if (/^unused[0-9]+$/.test(key)) {
    await free(pve, user, value, guest.vmid);
    delete guest.config[key];
  } else setKey(guest, key, null);
}

/** What waited for the start of a container becomes its config. */
export async function applyContainerPending(pve: Pve, user: LockUser, guest: WorldGuest): Promise<void> {
  for (const [key, value] of Object.entries(guest.pending)) {
    if (value === null) await removeKey(pve, user, guest, key);
    else await applyKey(pve, user, guest, key, value);
  }
  guest.pending = {};
}
