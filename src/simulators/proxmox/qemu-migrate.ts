import type { WorldGuest } from '../world.js';
import { need } from './auth.js';
import { copyBlocks } from './copy-blocks.js';
import { drawMs } from './durations.js';
import { FORMATS } from './formats.js';
import { digestOf, disksOf, formatDisk, type DiskLine } from './guest-config.js';
import { affinityOf, type Affinity } from './ha-affinity.js';
import { askHaToMove } from './ha-request.js';
import type { LockUser } from './locks.js';
import type { PowerUser } from './power.js';
import { OPTIONAL_COUNT, OPTIONAL_FLAG, OPTIONAL_TEXT } from './params.js';
import { checkUnlocked, guestOn, type Handled, type Pve, type PveCall, type Route } from './pve.js';
import { oneOf } from './qemu-formats.js';
import { checkRootParams, FLOCK_MS, lockFile, lockUser } from './guest-task.js';
import { migrationLock } from './snapshot.js';
import type { Task, TaskResult } from './task-engine.js';
import { allocate, free, isOn, storageOf, usableStorage, volumeOf } from './volumes.js';
import { failure, parameterErrors } from './wire.js';

const NODE = { type: 'string', format: FORMATS['pve-node'] } as const;
const permit: Route['permit'] = (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Migrate');
const GIB = 1_073_741_824;
/** Of the memory of a running guest. */
const MEMORY_MIB_PER_S = 500;

export const migrateRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/nodes/{node}/qemu/{vmid}/migrate',
    op: 'qemu.migrate.check',
    kind: 'protected-read',
    params: { target: { ...NODE, optional: true } },
    permit,
    handle: preconditions,
  },
  {
    method: 'POST',
    path: '/nodes/{node}/qemu/{vmid}/migrate',
    op: 'qemu.migrate',
    kind: 'fork',
    params: {
      bwlimit: OPTIONAL_COUNT,
      force: OPTIONAL_FLAG,
      migration_network: { ...OPTIONAL_TEXT, format: FORMATS.cidr },
      migration_type: oneOf('secure', 'insecure'),
      online: OPTIONAL_FLAG,
      target: NODE,
      targetstorage: { ...OPTIONAL_TEXT, list: true, format: FORMATS['storage-pair'] },
      'with-conntrack-state': { ...OPTIONAL_FLAG, version: '9.1' },
      'with-local-disks': OPTIONAL_FLAG,
    },
    permit,
    handle: startMigrate,
  },
];

function localDisks(pve: Pve, guest: WorldGuest): DiskLine[] {
  return disksOf(guest.config).filter((disk) => !storageOf(pve, disk.storage).shared);
}

interface Refusal {
  readonly unavailable_storages?: readonly string[];
  readonly 'blocking-ha-resources'?: ReturnType<Affinity['blockersOn']>;
}

function preconditions({ pve, node, vmid }: PveCall): Handled {
  const guest = guestOn(pve, node, vmid);
  const disks = localDisks(pve, guest).map((disk) => ({
    volid: disk.volid,
    size: Math.round((volumeOf(pve, disk.volid, node)?.sizeGiB ?? 0) * GIB),
    cdrom: disk.isCloudInit ? 1 : 0,
    is_unused: disk.key.startsWith('unused') ? 1 : 0,
  }));
  const used = [...new Set(disksOf(guest.config).map(({ storage }) => storage))];
  const allowed: string[] = [];
  const refused: Record<string, Refusal> = {};
  const affinity = pve.ha.isManaged(vmid) ? affinityOf(pve.world, `vm:${vmid}`) : undefined;
  for (const { name } of pve.world.nodes) {
    if (name === node) continue;
    const missing = used.filter((id) => !isOn(storageOf(pve, id), name));
    const blocking = affinity?.blockersOn(name) ?? [];
    if (missing.length === 0 && blocking.length === 0) allowed.push(name);
    else
      refused[name] = {
        ...(missing.length > 0 && { unavailable_storages: missing }),
        ...(blocking.length > 0 && { 'blocking-ha-resources': blocking }),
      };
  }
  const isRunning = guest.status === 'running';
  return {
    data: {
      running: isRunning ? 1 : 0,
      local_disks: disks,
      local_resources: [],
      'mapped-resources': [],
      'mapped-resource-info': {},
      ...(pve.world.version === '9.1' ? { 'has-dbus-vmstate': 1 } : {}),
      ...(affinity && pve.world.version === '9.1' ? { 'dependent-ha-resources': affinity.companions } : {}),
      ...(isRunning ? {} : { allowed_nodes: allowed, not_allowed_nodes: refused }),
    },
  };
}

function startMigrate(call: PveCall): Handled {
  const { pve, node, vmid, params, account } = call;
  const target = params.need('target');
  if (target === node) throw parameterErrors({ target: 'target is local node.' });
  if (!pve.world.nodes.some(({ name }) => name === target)) throw failure(`no such cluster node '${target}'`);
  checkRootParams(call, 'force', 'migration_type', 'migration_network');
  const storageFor = targetStorages(params.list('targetstorage'));
  const move: Move = {
    target,
    storageFor,
    isOnline: params.flag('online') ?? false,
    withLocalDisks: params.flag('with-local-disks') ?? false,
  };
  checkMove(call, move);
  for (const { storage } of disksOf(guestOn(pve, node, vmid).config))
    if (storageFor(storage) !== storage)
      need(account, `/storage/${storageFor(storage)}`, 'Datastore.AllocateSpace');
  if (pve.ha.isManaged(vmid)) return askHaToMove(call, target);
  const { upid } = migrateTask(call, move);
  return { data: upid, journal: { upid } };
}

/** Where a guest goes, and what of it. */
export interface Move {
  readonly target: string;
  readonly isOnline: boolean;
  readonly withLocalDisks: boolean;
  readonly storageFor: (storage: string) => string;
}

/** What is refused before there is a task. */
function checkMove({ pve, node, vmid }: PowerUser, { target, isOnline, storageFor }: Move): void {
  const guest = guestOn(pve, node, vmid);
  checkUnlocked(guest);
  if (guest.status === 'running' && !isOnline) throw failure("can't migrate running VM without --online");
  for (const { storage } of disksOf(guest.config)) usableStorage(pve, storageFor(storage), target);
}

/** The real task, whoever wants it. Throws what is refused at once. */
export function migrateTask(by: PowerUser, move: Move): Task {
  const { pve, node, vmid, account, op, faults } = by;
  checkMove(by, move);
  const setup = { node, type: 'qmigrate', id: String(vmid), actor: account.id, op, vmid, faults };
  return pve.tasks.start(setup, (task) => {
    const user = lockUser(task);
    return pve.files.with(user, migrationLock(vmid), 'exclusive', FLOCK_MS, () =>
      pve.files.with(user, lockFile(vmid), 'exclusive', FLOCK_MS, () => migrate(by, task, user, move)),
    );
  });
}

/** `1` = the same names, `a` = all to one, `a:b,c:d` = each by its name. */
function targetStorages(list: readonly string[]): (storage: string) => string {
  const all = list.find((entry) => !entry.includes(':') && entry !== '1');
  const byName = (storage: string): string | undefined =>
    list.find((entry) => entry.startsWith(`${storage}:`))?.slice(storage.length + 1);
  return (storage) => byName(storage) ?? all ?? storage;
}

/** Disks of local storages are copied, the memory of a running guest after them; then the config moves. */
async function migrate(
  { pve, node, vmid }: PowerUser,
  task: Task,
  user: LockUser,
  { target, withLocalDisks, storageFor }: Move,
): Promise<TaskResult> {
  const guest = guestOn(pve, node, vmid);
  checkUnlocked(guest);
  const isRunning = guest.status === 'running';
  pve.conditions.needQuorum();
  const disks = localDisks(pve, guest);
  task.log(`starting migration of VM ${vmid} to node '${target}'`);
  if (isRunning && !withLocalDisks && disks[0]) {
    task.log(
      `can't migrate local disk '${disks[0].volid}': can't live migrate attached local disks without with-local-disks option`,
    );
    task.log("ERROR: Problem found while scanning volumes - can't migrate VM - check log");
    throw failure('migration aborted');
  }
  if (pve.conditions.isOff(target)) throw failure('migration aborted');
  const digestBefore = digestOf(guest);
  guest.config['lock'] = 'migrate';
  const moved: { readonly key: string; readonly value: string; readonly old: string }[] = [];
  try {
    await task.pass('task');
    for (const disk of disks) {
      const volid = await copyTo(pve, user, guest, disk, target, storageFor(disk.storage));
      moved.push({ key: disk.key, value: formatDisk(volid, disk.options), old: disk.volid });
    }
    const memoryMs = (Number(guest.config['memory'] ?? 512) / MEMORY_MIB_PER_S) * 1_000;
    await pve.context.clock.sleep(
      drawMs(pve.context, 'migrate', vmid) + (isRunning ? memoryMs : 0),
      user.signal,
    );
  } finally {
    delete guest.config['lock'];
  }
  for (const { key, value, old } of moved) {
    await free(pve, user, old, vmid);
    guest.config[key] = value;
  }
  guest.node = target;
  return {
    effect: true,
    node: target,
    incarnation: guest.incarnation,
    digestBefore,
    digestAfter: digestOf(guest),
    params: { target },
  };
}

async function copyTo(
  pve: Pve,
  user: LockUser,
  guest: WorldGuest,
  disk: DiskLine,
  target: string,
  storageId: string,
): Promise<string> {
  const storage = usableStorage(pve, storageId, target);
  const volume = volumeOf(pve, disk.volid, guest.node);
  const sizeGiB = volume?.sizeGiB ?? 0;
  user.log?.(`copying local disk image '${disk.volid}'`);
  const volid = await allocate(pve, { ...user, node: target }, storage, {
    vmid: guest.vmid,
    node: target,
    sizeGiB,
    usedGiB: volume?.usedGiB ?? 0,
    isCloudInit: disk.isCloudInit,
  });
  await copyBlocks(pve, user, storage, sizeGiB);
  return volid;
}
