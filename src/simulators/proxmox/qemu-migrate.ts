import type { WorldGuest } from '../world.js';
import { need } from './auth.js';
import { copyBlocks } from './copy-blocks.js';
import { drawMs } from './durations.js';
import { FORMATS } from './formats.js';
import { digestOf, disksOf, formatDisk, type DiskLine } from './guest-config.js';
import type { LockUser } from './locks.js';
import { OPTIONAL_COUNT, OPTIONAL_FLAG, OPTIONAL_TEXT } from './params.js';
import { checkUnlocked, guestOn, type Handled, type Pve, type PveCall, type Route } from './pve.js';
import { oneOf } from './qemu-formats.js';
import { checkRootParams, FLOCK_MS, forkTask, lockFile } from './qemu-task.js';
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
  const refused: Record<string, { unavailable_storages: string[] }> = {};
  for (const { name } of pve.world.nodes) {
    if (name === node) continue;
    const missing = used.filter((id) => !isOn(storageOf(pve, id), name));
    if (missing.length === 0) allowed.push(name);
    else refused[name] = { unavailable_storages: missing };
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
  const guest = guestOn(pve, node, vmid);
  checkUnlocked(guest);
  if (guest.status === 'running' && !params.flag('online'))
    throw failure("can't migrate running VM without --online");
  const map = targetStorages(params.list('targetstorage'));
  for (const disk of disksOf(guest.config)) {
    const to = map(disk.storage);
    if (to !== disk.storage) need(account, `/storage/${to}`, 'Datastore.AllocateSpace');
    usableStorage(pve, to, target);
  }
  return forkTask(call, 'qmigrate', (task, user) =>
    pve.files.with(user, migrationLock(vmid), 'exclusive', FLOCK_MS, () =>
      pve.files.with(user, lockFile(vmid), 'exclusive', FLOCK_MS, () =>
        migrate(call, task, user, target, map),
      ),
    ),
  );
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
  { pve, node, vmid, params }: PveCall,
  task: Task,
  user: LockUser,
  target: string,
  map: (storage: string) => string,
): Promise<TaskResult> {
  const guest = guestOn(pve, node, vmid);
  checkUnlocked(guest);
  const isRunning = guest.status === 'running';
  pve.conditions.needQuorum();
  const disks = localDisks(pve, guest);
  task.log(`starting migration of VM ${vmid} to node '${target}'`);
  if (isRunning && !params.flag('with-local-disks') && disks[0]) {
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
      const volid = await copyTo(pve, user, guest, disk, target, map(disk.storage));
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
