import type { FiredFaults } from '../faults.js';
import type { WorldGuest, WorldStorage } from '../world.js';
import { need } from './auth.js';
import { copyBlocks } from './copy-blocks.js';
import { drawMs } from './durations.js';
import { FORMATS } from './formats.js';
import { disksOf, normaliseContainerNet, parseNet, sizeGiB, type DiskLine } from './guest-config.js';
import { FLOCK_MS, lockFile, lockUser } from './guest-task.js';
import { joinPool } from './join-pool.js';
import type { LockUser } from './locks.js';
import { createdLine, reserveContainer, textOfError } from './lxc-create.js';
import { isMount } from './lxc-keys.js';
import { formatMount, mountType, readMount } from './lxc-mounts.js';
import { OPTIONAL_FLAG, OPTIONAL_TEXT, VMID } from './params.js';
import { checkUnlocked, guestOn, type Handled, type Pve, type PveCall, type Route } from './pve.js';
import { needBridge } from './qemu-rights.js';
import { snapshotOf } from './snapshot.js';
import { TaskFailure, type Task, type TaskResult } from './task-engine.js';
import {
  allocate,
  freeAll,
  hasFeature,
  occupyStorages,
  storageOf,
  usableStorage,
  volumeOf,
} from './volumes.js';
import { failure, forbidden } from './wire.js';

export const lxcCloneRoute: Route = {
  method: 'POST',
  path: '/nodes/{node}/lxc/{vmid}/clone',
  op: 'lxc.clone',
  kind: 'fork',
  params: {
    bwlimit: { type: 'number', optional: true, minimum: 0 },
    description: OPTIONAL_TEXT,
    full: OPTIONAL_FLAG,
    hostname: { ...OPTIONAL_TEXT, format: FORMATS['dns-name'] },
    newid: VMID,
    pool: { ...OPTIONAL_TEXT, format: FORMATS['pve-poolid'] },
    snapname: { ...OPTIONAL_TEXT, maxLength: 40, format: FORMATS['pve-configid'] },
    storage: { ...OPTIONAL_TEXT, format: FORMATS['pve-storage-id'] },
    target: { ...OPTIONAL_TEXT, format: FORMATS['pve-node'] },
  },
  permit(account, path, raw) {
    need(account, `/vms/${path['vmid']}`, 'VM.Clone');
    const pool = raw('pool');
    const mayAllocate =
      account.at(`/vms/${raw('newid')}`).has('VM.Allocate') ||
      (pool !== undefined && account.at(`/pool/${pool}`).has('VM.Allocate'));
    if (!mayAllocate) throw forbidden();
  },
  handle: startClone,
};

interface CloneJob {
  readonly source: WorldGuest;
  readonly guest: WorldGuest;
  /** What is copied: the source's config, or that of one of its snapshots. */
  readonly config: Readonly<Record<string, string>>;
  readonly files: ReadonlyMap<string, string>;
  readonly pool: string | undefined;
  readonly isFull: boolean;
  readonly target: string;
  readonly storage: WorldStorage | undefined;
  readonly faults: FiredFaults;
}

/** Both configs are written before the call is answered: the new one with `lock: create`, and `lock: disk` in the source until the task ends. */
async function startClone(call: PveCall): Promise<Handled> {
  const { pve, node, vmid, params, account, op, faults } = call;
  const pool = params.text('pool');
  if (pool !== undefined && !pve.world.pools.has(pool)) throw forbidden(`pool '${pool}' does not exist`);
  const named = params.text('target') ?? node;
  const target = named === 'localhost' ? node : named;
  if (!pve.world.nodes.some(({ name }) => name === target)) throw failure(`no such cluster node '${target}'`);
  const storage = params.has('storage') ? chosenStorage(call, target) : undefined;
  const newid = params.number('newid')!;
  pve.conditions.needQuorum();
  guestOn(pve, node, vmid, 'lxc');
  const guest = await reserveContainer(call, newid);
  let source: WorldGuest;
  try {
    source = await lockSource(call);
  } catch (error) {
    pve.world.guests.delete(newid);
    throw error;
  }
  const revoke = (): void => {
    delete source.config['lock'];
    pve.world.guests.delete(newid);
  };
  try {
    const job = readJob(call, { source, guest, pool, target, storage, faults });
    const of = { node, type: 'vzclone', id: String(vmid), actor: account.id, op, vmid: newid };
    const setup = { ...of, faults, revoke };
    const task = pve.tasks.start(setup, (running) => runClone(pve, running, job));
    const about = { source: vmid, pool, target, full: job.isFull };
    return { data: task.upid, journal: { upid: task.upid, params: about } };
  } catch (error) {
    revoke();
    throw error;
  }
}

/** It must be there and usable, on the target too. */
function chosenStorage({ pve, node, params }: PveCall, target: string): WorldStorage {
  const id = params.need('storage');
  const storage = usableStorage(pve, id, node);
  if (target === node) return storage;
  usableStorage(pve, id, target);
  if (!storage.shared) throw failure(`can't clone to non-shared storage '${id}'`);
  return storage;
}

/** A second clone of the same source is refused as long as the first one runs. */
function lockSource({ pve, node, vmid, account }: PveCall): Promise<WorldGuest> {
  const user: LockUser = { actor: account.id, node, vmid };
  return pve.files.with(user, lockFile(vmid, 'lxc'), 'exclusive', FLOCK_MS, async () => {
    const source = guestOn(pve, node, vmid, 'lxc');
    checkUnlocked(source);
    source.config['lock'] = 'disk';
    return source;
  });
}

/** Checks what is to be copied and writes the new config, all but its volumes. */
function readJob(call: PveCall, about: Omit<CloneJob, 'isFull' | 'config' | 'files'>): CloneJob {
  const { params, account } = call;
  const { source, guest, target, storage } = about;
  const isFull = params.flag('full') ?? source.config['template'] !== '1';
  if (storage && !isFull) throw failure("parameter 'storage' not allowed for linked clones");
  const snapshot = params.text('snapname');
  const { config, rawLines, files } = snapshot === undefined ? source : snapshotOf(source, snapshot);
  const isShared = Object.entries(config)
    .filter(([key]) => isMount(key))
    .map(([key, value]) => checkMount(call, source, key, value, isFull))
    .every(({ shared }) => shared);
  if (target !== call.node && !isShared)
    throw failure(`can't clone CT to node '${target}' (CT uses local storage)`);
  for (const [key, value] of Object.entries(config))
    if (/^net[0-9]+$/.test(key) && !account.isRoot) needBridge(call, value);
  guest.config = newConfig(call, config, guest.vmid);
  guest.rawLines = rawLines;
  return { ...about, isFull, config, files };
}

/** Gives the storage that the copy will lie on. */
function checkMount(
  { pve, account, params }: PveCall,
  source: WorldGuest,
  key: string,
  value: string,
  isFull: boolean,
): WorldStorage {
  const mount = readMount(value);
  const type = mountType(mount);
  if (type !== 'volume') throw failure(`unable to clone mountpoint '${key}' (type ${type})`);
  const own = storageOf(pve, mount.storage ?? '');
  const storage = storageOf(pve, params.text('storage') ?? own.id);
  need(account, `/storage/${storage.id}`, 'Datastore.AllocateSpace');
  const snapshot = params.text('snapname');
  if (isFull && source.status === 'running' && snapshot === undefined)
    throw failure('Full clone of a running container is only possible from a snapshot');
  const isBase = source.config['template'] === '1';
  // A container's volume on a storage of files is a raw image: nothing can share blocks with it.
  if (!isFull && (mount.volume.endsWith('.raw') || !hasFeature(own, 'clone', { isBase, snapshot })))
    throw failure(`Linked clone feature for '${mount.volume}' is not available`);
  return storage;
}

/** Everything is copied but what makes it a template, what waits, and its volumes; MAC addresses are new. */
function newConfig(
  { pve, params }: PveCall,
  config: Readonly<Record<string, string>>,
  newid: number,
): Record<string, string> {
  const random = pve.context.random.stream('clone', newid);
  const dropped = new Set(['template', 'parent', 'lock']);
  const copied = Object.entries(config)
    .filter(([key]) => !dropped.has(key) && !isMount(key) && !/^unused[0-9]+$/.test(key))
    .map(([key, value]): [string, string] => [
      key,
      /^net[0-9]+$/.test(key) ? normaliseContainerNet(withoutMac(value), random) : value,
    ]);
  const [hostname, description] = [params.text('hostname') ?? '', params.text('description') ?? ''];
  return {
    ...Object.fromEntries(copied),
    ...(hostname === '' ? {} : { hostname }),
    ...(description === '' ? {} : { description }),
    lock: 'create',
  };
}

function withoutMac(net: string): string {
  const { rest } = parseNet(net);
  return [...rest].map(([key, value]) => `${key}=${value}`).join(',');
}

/** Copies the volumes, joins the pool, sets the system up. Then the source is unlocked, whatever became of it; a failed clone leaves nothing. */
async function runClone(pve: Pve, task: Task, job: CloneJob): Promise<TaskResult> {
  const { source, guest } = job;
  const user = lockUser(task);
  const made: string[] = [];
  task.did(() => ({ ...clonedLine(pve, job), effect: true }));
  try {
    await task.pass('task');
    await copyVolumes(pve, task, user, job, made);
    guest.files = new Map(job.files);
    if (job.pool !== undefined) await joinPool(pve, user, job.pool, guest.vmid);
    await pve.context.clock.sleep(drawMs(pve.context, 'container-setup', guest.vmid), task.signal);
    pve.conditions.needQuorum();
  } catch (error) {
    const left = await freeAll(pve, user, made, guest.vmid);
    const text = `clone failed: ${textOfError(error)}`;
    // Neither lock nor config can be taken away without a quorum.
    if (pve.world.conditions.quorumLost)
      throw new TaskFailure(text, { ...clonedLine(pve, job), effect: true });
    delete source.config['lock'];
    pve.world.guests.delete(guest.vmid);
    throw new TaskFailure(text, { effect: false, params: { left } });
  }
  delete source.config['lock'];
  await pve.files.with(user, lockFile(guest.vmid, 'lxc'), 'exclusive', FLOCK_MS, async () => {
    delete guest.config['lock'];
    guest.node = job.target;
  });
  return { ...clonedLine(pve, job), effect: true };
}

async function copyVolumes(
  pve: Pve,
  task: Task,
  user: LockUser,
  job: CloneJob,
  made: string[],
): Promise<void> {
  const volumes = disksOf(job.config).filter(({ key }) => isMount(key));
  const storages = volumes.map(({ storage }) => job.storage?.id ?? storage);
  if (job.faults.holdLockMs > 0) occupyStorages(pve, task.node, storages, job.faults.holdLockMs);
  for (const disk of volumes) {
    const volid = await copyVolume(pve, task, user, job, disk);
    made.push(volid);
    job.guest.config[disk.key] = formatMount(volid, disk.options);
  }
}

async function copyVolume(
  pve: Pve,
  task: Task,
  user: LockUser,
  { guest, isFull, storage: chosen }: CloneJob,
  disk: DiskLine,
): Promise<string> {
  const storage = chosen ?? storageOf(pve, disk.storage);
  task.log(
    isFull
      ? `create full clone of mountpoint ${disk.key} (${disk.volid})`
      : `create linked clone of mount point ${disk.key} (${disk.volid})`,
  );
  const base = volumeOf(pve, disk.volid, task.node);
  const volid = await allocate(pve, user, storage, {
    vmid: guest.vmid,
    node: task.node,
    sizeGiB: base?.sizeGiB ?? sizeGiB(disk.options['size'] ?? '0'),
    usedGiB: isFull ? (base?.usedGiB ?? 0) : 0,
    format: 'raw',
    isContainer: true,
    ...(isFull ? {} : { parent: disk.volid }),
  });
  // Files are copied, not blocks.
  if (isFull) await copyBlocks(pve, user, storage, base?.usedGiB ?? 0);
  return volid;
}

function clonedLine(pve: Pve, job: CloneJob): TaskResult {
  const line = createdLine(pve, job.guest);
  return {
    ...line,
    params: {
      ...line.params,
      source: job.source.vmid,
      sourceIncarnation: job.source.incarnation,
      mode: job.isFull ? 'full' : 'linked',
    },
  };
}
