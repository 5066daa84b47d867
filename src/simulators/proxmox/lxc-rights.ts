import { need } from './auth.js';
import { isMount, privilegeFor } from './lxc-keys.js';
import { mountType, readMount } from './lxc-mounts.js';
import type { PveCall } from './pve.js';
import { needBridge, needOnGuest, type GuestPlace } from './qemu-rights.js';
import { needVolume } from './storage-content.js';
import { forbidden } from './wire.js';

/** A container as it was, for rights that depend on what a write changes. */
interface ContainerBefore {
  readonly config: Readonly<Record<string, string>>;
  readonly isUnprivileged: boolean;
}

type RightsCall = Pick<PveCall, 'pve' | 'account' | 'node'>;

/** The right to write each key, by what it is and by what it becomes. `value` null = it is removed. */
export function needContainerKeys(
  call: RightsCall,
  place: GuestPlace,
  before: ContainerBefore,
  changes: readonly (readonly [key: string, value: string | null])[],
): void {
  const { account } = call;
  if (account.isRoot) return;
  for (const [key, value] of changes) {
    const privilege = privilegeFor(key);
    if (privilege === 'value') needValue(call, place, before, key, value);
    else needOnGuest(account, place, privilege);
    if (/^net[0-9]+$/.test(key))
      for (const net of [before.config[key], value ?? undefined])
        if (net !== undefined) needBridge(call, net);
  }
}

function needValue(
  call: RightsCall,
  place: GuestPlace,
  before: ContainerBefore,
  key: string,
  value: string | null,
): void {
  const { account } = call;
  if (isMount(key)) {
    needOnGuest(account, place, 'VM.Config.Disk');
    if (value !== null) needMount(call, place, value);
  } else if (key === 'features') needFeatures(call, place, before, value);
  else if (key === 'hookscript') throw forbidden('changing the hookscript is only allowed for root@pam');
  else throw forbidden('configuring device passthrough is only allowed for root@pam');
}

function needMount(call: RightsCall, { vmid }: GuestPlace, value: string): void {
  const mount = readMount(value);
  const type = mountType(mount);
  if (type !== 'volume') throw forbidden(`mount point type ${type} is only allowed for root@pam`);
  if (mount.kind === 'existing') needVolume(call, vmid, mount.volume);
  else if (mount.storage !== undefined)
    need(call.account, `/storage/${mount.storage}`, 'Datastore.AllocateSpace');
}

function needFeatures(
  { account }: RightsCall,
  place: GuestPlace,
  { config, isUnprivileged }: ContainerBefore,
  value: string | null,
): void {
  if (!isUnprivileged)
    throw forbidden('changing feature flags for privileged container is only allowed for root@pam');
  const [was, is] = [featuresOf(config['features']), featuresOf(value ?? undefined)];
  const changed = [...new Set([...was.keys(), ...is.keys()])].filter(
    (name) => was.get(name) !== is.get(name),
  );
  if (changed.some((name) => name !== 'nesting'))
    throw forbidden('changing feature flags (except nesting) is only allowed for root@pam');
  if (changed.length > 0) needOnGuest(account, place, 'VM.Allocate');
}

function featuresOf(text = ''): Map<string, string> {
  const pairs = text.split(',').filter((part) => part !== '');
  return new Map(pairs.map((part) => [part.replace(/=.*/, ''), part.replace(/^[^=]*=/, '')]));
}
