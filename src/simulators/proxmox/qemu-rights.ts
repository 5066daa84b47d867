import type { Account } from './auth.js';
import { need } from './auth.js';
import { parseNet } from './guest-config.js';
import type { PveCall } from './pve.js';
import { isDrive, readDrive } from './qemu-drives.js';
import { privilegesFor } from './qemu-keys.js';
import { failure, forbidden } from './wire.js';

/** A guest that is being made counts as a member of the pool that it will be in. */
export interface GuestPlace {
  readonly vmid: number;
  readonly pool?: string | undefined;
}

/** One of the privileges, on the guest or on its pool. */
export function needOnGuest(account: Account, { vmid, pool }: GuestPlace, ...privileges: string[]): void {
  const paths = [...(pool === undefined ? [] : [`/pool/${pool}`]), `/vms/${vmid}`];
  if (!paths.some((path) => privileges.some((privilege) => account.at(path).has(privilege))))
    throw forbidden(`/vms/${vmid}, ${privileges.join('|')}`);
}

/** The right to write each key, by what it is and by what it becomes. `value` null = it is removed. */
export function needKeys(
  { account }: Pick<PveCall, 'account'>,
  place: GuestPlace,
  changes: readonly (readonly [key: string, value: string | null])[],
): void {
  if (account.isRoot) return;
  for (const [key, value] of changes) {
    const privileges = privilegesFor(key);
    if (privileges[0] === 'root') throw failure(`only root can set '${key}' config`);
    if (privileges[0] === 'value') needValue(account, place, key, value);
    else needOnGuest(account, place, ...privileges);
    if (key === 'startup') need(account, '/', 'Sys.Modify');
  }
}

function needValue(account: Account, place: GuestPlace, key: string, value: string | null): void {
  if (isDrive(key)) {
    const drive = value === null ? undefined : readDrive(value);
    const isCdrom = drive !== undefined && drive.kind !== 'new' && drive.kind !== 'existing';
    needOnGuest(account, place, isCdrom ? 'VM.Config.CDROM' : 'VM.Config.Disk');
    if (drive?.kind === 'cloudinit') needOnGuest(account, place, 'VM.Config.Cloudinit');
    return;
  }
  const mapping = /(?:^|,)mapping=([^,]+)/.exec(value ?? '')?.[1];
  const isHarmless =
    value === null || value === 'socket' || /^(host=)?spice(,|$)/i.test(value) || mapping !== undefined;
  if (!isHarmless)
    throw failure(
      `only root can set '${key}' config for ${key.startsWith('hostpci') ? 'non-mapped' : 'real'} devices`,
    );
  needOnGuest(account, place, 'VM.Config.HWType');
  if (mapping !== undefined)
    need(account, `/mapping/${key.startsWith('usb') ? 'usb' : 'pci'}/${mapping}`, 'Mapping.Use');
}

/** A plain bridge is a vnet of zone `localnetwork`; with a tag only the tag's own path counts. */
export function needBridge({ account }: Pick<PveCall, 'account'>, net: string): void {
  const { rest } = parseNet(net);
  const bridge = rest.get('bridge');
  const tag = rest.get('tag');
  if (bridge === undefined) return;
  need(account, `/sdn/zones/localnetwork/${bridge}${tag === undefined ? '' : `/${tag}`}`, 'SDN.Use');
}
