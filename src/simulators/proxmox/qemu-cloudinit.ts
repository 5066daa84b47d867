import type { WorldGuest } from '../world.js';
import { need } from './auth.js';
import { cloudInitKeys, dump, hasCloudInitDrive, regenerate } from './cloud-init.js';
import { drawMs } from './durations.js';
import { checkUnlocked, guestOn, type Handled, type PveCall, type Route } from './pve.js';
import { FLOCK_MS, lockFile } from './guest-task.js';

const PATH = '/nodes/{node}/qemu/{vmid}/cloudinit';
const permitRead: Route['permit'] = (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Audit');

export const cloudInitRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: PATH,
    op: 'qemu.cloudinit.get',
    kind: 'read',
    params: {},
    permit: permitRead,
    handle: ({ pve, node, vmid }) => ({ data: pendingOf(guestOn(pve, node, vmid)) }),
  },
  {
    method: 'PUT',
    path: PATH,
    op: 'qemu.cloudinit.put',
    kind: 'config-write',
    params: {},
    permit: (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Config.Cloudinit'),
    handle: regenerateNow,
  },
  {
    method: 'GET',
    path: `${PATH}/dump`,
    op: 'qemu.cloudinit.dump',
    kind: 'read',
    params: { type: { type: 'string', enum: ['user', 'network', 'meta'] } },
    permit: permitRead,
    handle: ({ pve, node, vmid, params }) => ({
      data: dump(pve, guestOn(pve, node, vmid), params.need('type') as 'user' | 'network' | 'meta'),
    }),
  },
];

/** What the drive was generated with, and what it would be now. */
function pendingOf(guest: WorldGuest): unknown[] {
  const [old, now] = [guest.cloudInit, cloudInitKeys(guest.config)];
  const keys = [...new Set([...Object.keys(old), ...Object.keys(now)])].sort();
  return keys.map((key) => ({
    key,
    ...(old[key] === undefined ? {} : { value: shown(key, old[key]) }),
    ...(now[key] === undefined || now[key] === old[key] ? {} : { pending: shown(key, now[key]) }),
    ...(now[key] === undefined ? { delete: 1 } : {}),
  }));
}

function shown(key: string, value: string): string {
  return key === 'cipassword' ? '**********' : value;
}

function regenerateNow({ pve, node, vmid, account }: PveCall): Promise<Handled> {
  guestOn(pve, node, vmid);
  const user = { actor: account.id, node, vmid };
  return pve.files.with(user, lockFile(vmid), 'exclusive', FLOCK_MS, async () => {
    const guest = guestOn(pve, node, vmid);
    checkUnlocked(guest);
    const hasDrive = hasCloudInitDrive(guest);
    if (hasDrive) {
      await pve.context.clock.sleep(drawMs(pve.context, 'cloud-init-iso', vmid));
      regenerate(pve, guest);
    }
    return { data: null, journal: { effect: hasDrive, incarnation: guest.incarnation } };
  });
}
