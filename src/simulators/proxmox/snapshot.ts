import type { WorldGuest, WorldSnapshot } from '../world.js';
import { need, needAny } from './auth.js';
import { drawMs } from './durations.js';
import { FORMATS } from './formats.js';
import { digestOf, disksOf, shownKeys, type DiskLine } from './guest-config.js';
import type { LockUser } from './locks.js';
import { OPTIONAL_FLAG, OPTIONAL_TEXT, type ParamSpec } from './params.js';
import { checkUnlocked, guestOn, type Handled, type Pve, type PveCall, type Route } from './pve.js';
import { FLOCK_MS, forkTask, lockFile } from './guest-task.js';
import type { Task, TaskResult } from './task-engine.js';
import { allocateState, free, hasFeature, storageOf, volumeOf } from './volumes.js';
import { failure } from './wire.js';

const NAME: ParamSpec = { type: 'string', maxLength: 40, format: FORMATS['pve-configid'] };
const PATH = '/nodes/{node}/qemu/{vmid}/snapshot';
const permit: Route['permit'] = (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Snapshot');

export const snapshotRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: PATH,
    op: 'qemu.snapshot.list',
    kind: 'protected-read',
    params: {},
    permit: (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Audit'),
    handle: ({ pve, node, vmid }) => ({ data: listOf(guestOn(pve, node, vmid)) }),
  },
  {
    method: 'POST',
    path: PATH,
    op: 'qemu.snapshot',
    kind: 'fork',
    params: { description: OPTIONAL_TEXT, snapname: NAME, vmstate: OPTIONAL_FLAG },
    permit,
    handle: take,
  },
  {
    method: 'GET',
    path: `${PATH}/{snapname}`,
    op: 'qemu.snapshot.index',
    kind: 'read',
    local: true,
    params: {},
    handle: () => ({ data: [{ cmd: 'rollback' }, { cmd: 'config' }] }),
  },
  {
    method: 'DELETE',
    path: `${PATH}/{snapname}`,
    op: 'qemu.snapshot.delete',
    kind: 'fork',
    params: { force: OPTIONAL_FLAG },
    permit,
    handle: remove,
  },
  {
    method: 'GET',
    path: `${PATH}/{snapname}/config`,
    op: 'qemu.snapshot.config.get',
    kind: 'read',
    params: {},
    permit: (account, path) =>
      needAny(account, `/vms/${path['vmid']}`, 'VM.Snapshot', 'VM.Snapshot.Rollback', 'VM.Audit'),
    handle: ({ pve, node, vmid, path }) => ({
      data: configOf(guestOn(pve, node, vmid), path['snapname'] ?? ''),
    }),
  },
  {
    method: 'PUT',
    path: `${PATH}/{snapname}/config`,
    op: 'qemu.snapshot.config.put',
    kind: 'config-write',
    params: { description: OPTIONAL_TEXT },
    permit,
    handle: describeSnapshot,
  },
];

export function snapshotOf(guest: WorldGuest, name: string): WorldSnapshot {
  const snapshot = guest.snapshots.get(name);
  if (!snapshot) throw failure(`snapshot '${name}' does not exist`);
  return snapshot;
}

function listOf(guest: WorldGuest): unknown[] {
  const rows = [...guest.snapshots].map(([name, { description, time, parent, state }]) => ({
    name,
    description,
    snaptime: time,
    vmstate: state === undefined ? 0 : 1,
    ...(parent === undefined ? {} : { parent }),
  }));
  const parent = guest.config['parent'];
  const current = {
    name: 'current',
    description: 'You are here!',
    digest: digestOf(guest),
    running: guest.status === 'running' ? 1 : 0,
    ...(parent === undefined ? {} : { parent }),
  };
  return [...rows, current];
}

function configOf(guest: WorldGuest, name: string): unknown {
  const { config, description, time, parent } = snapshotOf(guest, name);
  const shown = shownKeys({ ...config, ...(description === '' ? {} : { description }) }, 'qemu');
  return { ...shown, snaptime: time, ...(parent === undefined ? {} : { parent }) };
}

async function describeSnapshot(call: PveCall): Promise<Handled> {
  const { pve, node, vmid, path, params, account } = call;
  guestOn(pve, node, vmid);
  const user: LockUser = { actor: account.id, node, vmid };
  return pve.files.with(user, lockFile(vmid), 'exclusive', FLOCK_MS, async () => {
    const guest = guestOn(pve, node, vmid);
    checkUnlocked(guest);
    const snapshot = snapshotOf(guest, path['snapname'] ?? '');
    const before = digestOf(guest);
    snapshot.description = params.text('description') ?? snapshot.description;
    const about = { incarnation: guest.incarnation, digestBefore: before, digestAfter: digestOf(guest) };
    return { data: null, journal: { ...about, effect: before !== about.digestAfter } };
  });
}

/** A raw file on a storage of files cannot. */
function canSnapshot(pve: Pve, { storage, volid }: DiskLine): boolean {
  return hasFeature(storageOf(pve, storage), 'snapshot') && !volid.endsWith('.raw');
}

/** Disks whose content a snapshot keeps. */
function volumesOf(guest: WorldGuest): DiskLine[] {
  return disksOf(guest.config).filter((disk) => !disk.key.startsWith('unused'));
}

function take(call: PveCall): Handled {
  const { pve, node, vmid, params } = call;
  const name = params.need('snapname');
  guestOn(pve, node, vmid);
  if (/^(current|pending)$/i.test(name))
    throw failure(`unable to use snapshot name '${name}' (reserved name)`);
  return forkTask(call, 'qmsnapshot', async (task, user) => {
    const guest = await shortly(call, user, (found) => {
      if (found.config['template'] === '1') throw failure("you can't take a snapshot if it's a template");
      checkUnlocked(found);
      if (found.snapshots.has(name)) throw failure(`snapshot name '${name}' already used`);
      if (!volumesOf(found).every((disk) => canSnapshot(pve, disk)))
        throw failure('snapshot feature is not available');
      found.config['lock'] = 'snapshot';
    });
    try {
      return await takeNow(call, task, user, guest, name);
    } finally {
      delete guest.config['lock'];
    }
  });
}

async function takeNow(
  { pve, vmid, params }: PveCall,
  task: Task,
  user: LockUser,
  guest: WorldGuest,
  name: string,
): Promise<TaskResult> {
  const digestBefore = digestOf(guest);
  const { lock: _, parent, description: __, ...config } = guest.config;
  const sizesGiB: Record<string, number> = {};
  const disks = volumesOf(guest);
  const state =
    params.flag('vmstate') && guest.status === 'running' && disks[0]
      ? await allocateState(pve, user, storageOf(pve, disks[0].storage), guest, `vm-${vmid}-state-${name}`)
      : undefined;
  await task.pass('task');
  for (const disk of disks) {
    task.log(`snapshotting 'drive-${disk.key}' (${disk.volid})`);
    sizesGiB[disk.volid] = volumeOf(pve, disk.volid, guest.node)?.sizeGiB ?? 0;
  }
  await pve.context.clock.sleep(drawMs(pve.context, 'snapshot', vmid), user.signal);
  guest.snapshots.set(name, {
    config,
    rawLines: guest.rawLines,
    description: params.text('description') ?? '',
    time: pve.context.clock.unixSeconds(),
    parent,
    state,
    sizesGiB,
    files: new Map(guest.files),
  });
  guest.config['parent'] = name;
  const { incarnation } = guest;
  return {
    effect: true,
    incarnation,
    digestBefore,
    digestAfter: digestOf(guest),
    params: { snapshot: name },
  };
}

/** Looks at the guest and marks it, with the flock held only that long. */
export async function shortly(
  { pve, node, vmid }: Pick<PveCall, 'pve' | 'node' | 'vmid'>,
  user: LockUser,
  look: (guest: WorldGuest) => void,
): Promise<WorldGuest> {
  return pve.files.with(user, lockFile(vmid), 'exclusive', FLOCK_MS, async () => {
    const guest = guestOn(pve, node, vmid);
    pve.conditions.needQuorum();
    look(guest);
    return guest;
  });
}

function remove(call: PveCall): Handled {
  const { pve, node, vmid, path } = call;
  const name = path['snapname'] ?? '';
  guestOn(pve, node, vmid);
  return forkTask(call, 'qmdelsnapshot', (task, user) =>
    pve.files.with(user, migrationLock(vmid), 'exclusive', FLOCK_MS, async () => {
      const guest = await shortly(call, user, (found) => {
        checkUnlocked(found);
        snapshotOf(found, name);
        found.config['lock'] = 'snapshot-delete';
      });
      try {
        await task.pass('task');
        return await removeNow(pve, user, guest, name);
      } finally {
        delete guest.config['lock'];
      }
    }),
  );
}

async function removeNow(pve: Pve, user: LockUser, guest: WorldGuest, name: string): Promise<TaskResult> {
  const snapshot = snapshotOf(guest, name);
  const digestBefore = digestOf(guest);
  if (snapshot.state !== undefined) await free(pve, user, snapshot.state, guest.vmid);
  await pve.context.clock.sleep(drawMs(pve.context, 'snapshot', guest.vmid), user.signal);
  guest.snapshots.delete(name);
  for (const other of guest.snapshots.values()) if (other.parent === name) other.parent = snapshot.parent;
  if (guest.config['parent'] === name) {
    if (snapshot.parent === undefined) delete guest.config['parent'];
    else guest.config['parent'] = snapshot.parent;
  }
  const { incarnation } = guest;
  return {
    effect: true,
    incarnation,
    digestBefore,
    digestAfter: digestOf(guest),
    params: { snapshot: name },
  };
}

/** Held while a guest moves, is rolled back or loses a snapshot. */
export function migrationLock(vmid: number): string {
  return `/var/lock/pve-manager/pve-migrate-${vmid}`;
}
