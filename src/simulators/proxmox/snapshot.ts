import type { WorldGuest, WorldSnapshot } from '../world.js';
import { need, needAny } from './auth.js';
import { drawMs } from './durations.js';
import { FORMATS } from './formats.js';
import { digestOf, disksOf, shownKeys, shownLines, type DiskLine } from './guest-config.js';
import type { LockUser } from './locks.js';
import { KINDS, type GuestKind } from './guest-kind.js';
import { OPTIONAL_FLAG, OPTIONAL_TEXT, type ParamSpec } from './params.js';
import { checkUnlocked, guestOn, type Handled, type Pve, type PveCall, type Route } from './pve.js';
import { FLOCK_MS, forkTask, lockFile } from './guest-task.js';
import type { Task, TaskResult } from './task-engine.js';
import { allocateState, free, hasFeature, storageOf, volumeOf } from './volumes.js';
import { failure } from './wire.js';

const NAME: ParamSpec = { type: 'string', maxLength: 40, format: FORMATS['pve-configid'] };
const permit: Route['permit'] = (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Snapshot');

export const snapshotRoutes: readonly Route[] = [...routesOf('qemu'), ...routesOf('lxc')];

/** Both kinds do it alike; only a virtual machine has a memory that is kept too. */
function routesOf(kind: GuestKind): Route[] {
  const path = `/nodes/{node}/${kind}/{vmid}/snapshot`;
  return [
    {
      method: 'GET',
      path,
      op: `${kind}.snapshot.list`,
      kind: 'protected-read',
      params: {},
      permit: (account, of) => need(account, `/vms/${of['vmid']}`, 'VM.Audit'),
      handle: ({ pve, node, vmid }) => ({ data: listOf(guestOn(pve, node, vmid, kind)) }),
    },
    {
      method: 'POST',
      path,
      op: `${kind}.snapshot`,
      kind: 'fork',
      params: {
        description: OPTIONAL_TEXT,
        snapname: NAME,
        ...(kind === 'qemu' ? { vmstate: OPTIONAL_FLAG } : {}),
      },
      permit,
      handle: (call) => take(call, kind),
    },
    {
      method: 'GET',
      path: `${path}/{snapname}`,
      op: `${kind}.snapshot.index`,
      kind: 'read',
      local: true,
      params: {},
      handle: () => ({ data: [{ cmd: 'rollback' }, { cmd: 'config' }] }),
    },
    {
      method: 'DELETE',
      path: `${path}/{snapname}`,
      op: `${kind}.snapshot.delete`,
      kind: 'fork',
      params: { force: OPTIONAL_FLAG },
      permit,
      handle: (call) => remove(call, kind),
    },
    {
      method: 'GET',
      path: `${path}/{snapname}/config`,
      op: `${kind}.snapshot.config.get`,
      kind: 'read',
      params: {},
      permit: (account, of) =>
        needAny(account, `/vms/${of['vmid']}`, 'VM.Snapshot', 'VM.Snapshot.Rollback', 'VM.Audit'),
      handle: ({ pve, node, vmid, path: of }) => ({
        data: configOf(guestOn(pve, node, vmid, kind), of['snapname'] ?? ''),
      }),
    },
    {
      method: 'PUT',
      path: `${path}/{snapname}/config`,
      op: `${kind}.snapshot.config.put`,
      kind: 'config-write',
      params: { description: OPTIONAL_TEXT },
      permit,
      handle: (call) => describeSnapshot(call, kind),
    },
  ];
}

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
  const { config, rawLines, description, time, parent } = snapshotOf(guest, name);
  const shown = shownKeys({ ...config, ...(description === '' ? {} : { description }) }, guest.kind);
  return { ...shown, ...shownLines(rawLines), snaptime: time, ...(parent === undefined ? {} : { parent }) };
}

async function describeSnapshot(call: PveCall, kind: GuestKind): Promise<Handled> {
  const { pve, node, vmid, path, params, account } = call;
  guestOn(pve, node, vmid, kind);
  const user: LockUser = { actor: account.id, node, vmid };
  return pve.files.with(user, lockFile(vmid, kind), 'exclusive', FLOCK_MS, async () => {
    const guest = guestOn(pve, node, vmid, kind);
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

/** Nothing can be kept of a folder or a device of the node. */
function hasFolder({ kind, config }: WorldGuest): boolean {
  return (
    kind === 'lxc' &&
    Object.keys(config).some((key) => /^mp[0-9]+$/.test(key) && config[key]?.startsWith('/'))
  );
}

/** Disks whose content a snapshot keeps. */
function volumesOf(guest: WorldGuest): DiskLine[] {
  return disksOf(guest.config).filter((disk) => !disk.key.startsWith('unused'));
}

function take(call: PveCall, kind: GuestKind): Handled {
  const { pve, node, vmid, params } = call;
  const name = params.need('snapname');
  guestOn(pve, node, vmid, kind);
  if (/^(current|pending)$/i.test(name))
    throw failure(`unable to use snapshot name '${name}' (reserved name)`);
  return forkTask(call, `${KINDS[kind].task}snapshot`, async (task, user) => {
    const guest = await shortly({ ...call, kind }, user, (found) => {
      if (found.config['template'] === '1') throw failure("you can't take a snapshot if it's a template");
      checkUnlocked(found);
      if (found.snapshots.has(name)) throw failure(`snapshot name '${name}' already used`);
      if (hasFolder(found) || !volumesOf(found).every((disk) => canSnapshot(pve, disk)))
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
  { pve, node, vmid, kind = 'qemu' }: Pick<PveCall, 'pve' | 'node' | 'vmid'> & { readonly kind?: GuestKind },
  user: LockUser,
  look: (guest: WorldGuest) => void,
): Promise<WorldGuest> {
  return pve.files.with(user, lockFile(vmid, kind), 'exclusive', FLOCK_MS, async () => {
    const guest = guestOn(pve, node, vmid, kind);
    pve.conditions.needQuorum();
    look(guest);
    return guest;
  });
}

function remove(call: PveCall, kind: GuestKind): Handled {
  const { pve, node, vmid, path } = call;
  const name = path['snapname'] ?? '';
  guestOn(pve, node, vmid, kind);
  return forkTask(call, `${KINDS[kind].task}delsnapshot`, (task, user) =>
    pve.files.with(user, migrationLock(vmid), 'exclusive', FLOCK_MS, async () => {
      const guest = await shortly({ ...call, kind }, user, (found) => {
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
