import { Interrupted } from '../clock.js';
import type { FiredFaults } from '../faults.js';
import { newGuest, poolOf, type WorldGuest, type WorldStorage } from '../world.js';
import { copyBlocks } from './copy-blocks.js';
import { drawMs } from './durations.js';
import { disksOf, formatDisk, macOf, markLine, metaLine, randomMac, sizeGiB } from './guest-config.js';
import { joinPool } from './join-pool.js';
import type { LockUser } from './locks.js';
import type { Pve } from './pve.js';
import { lockFile, lockUser } from './guest-task.js';
import { TaskFailure, type Task, type TaskResult } from './task-engine.js';
import { allocate, freeAll, occupyStorages, storageOf, volumeOf } from './volumes.js';
import { failure } from './wire.js';

export interface CloneJob {
  readonly source: WorldGuest;
  /** What is copied: the source's config, or that of one of its snapshots. */
  readonly config: Readonly<Record<string, string>>;
  /** What lies on its disks. */
  readonly files: ReadonlyMap<string, string>;
  readonly newid: number;
  readonly name: string;
  readonly description: string | undefined;
  readonly pool: string | undefined;
  readonly isFull: boolean;
  readonly target: string;
  readonly storage: WorldStorage | undefined;
  readonly format: string | undefined;
  readonly faults: FiredFaults;
}

/** Under the flocks of both: the source's shared unless it runs. */
export async function runClone(pve: Pve, task: Task, job: CloneJob): Promise<TaskResult> {
  const { source, newid } = job;
  const user = lockUser(task);
  const isRunning = source.status === 'running';
  task.log(`creating a clone of VM ${source.vmid} with ID ${newid}`);
  return pve.files.with(user, lockFile(source.vmid), isRunning ? 'exclusive' : 'shared', 1_000, () =>
    pve.files.with(user, lockFile(newid), 'exclusive', 1_000, () => cloneLocked(pve, task, user, job)),
  );
}

async function cloneLocked(pve: Pve, task: Task, user: LockUser, job: CloneJob): Promise<TaskResult> {
  const guest = reserveId(pve, task, job.newid);
  task.did(() => ({ ...createdLine(job, guest, poolOf(pve.world, job.newid)), effect: true }));
  const made: string[] = [];
  try {
    await task.pass('task');
    const storages = disksOf(job.config).map((disk) => job.storage?.id ?? disk.storage);
    if (job.faults.holdLockMs > 0) occupyStorages(pve, task.node, storages, job.faults.holdLockMs);
    await copyDisks(pve, task, user, job, guest, made);
    guest.files = new Map(job.files);
    pve.conditions.needQuorum();
    delete guest.config['lock'];
    await copyFirewall(pve, user, job.newid);
    guest.node = job.target;
  } catch (error) {
    const left = await freeAll(pve, user, made, job.newid);
    pve.world.guests.delete(job.newid);
    throw new TaskFailure(`clone failed: ${causeOf(error)}`, { effect: false, params: { left } });
  }
  try {
    if (job.pool !== undefined) await joinPool(pve, user, job.pool, job.newid);
  } catch (error) {
    const left = await freeAll(pve, user, made, job.newid);
    if (job.target === task.node) pve.world.guests.delete(job.newid);
    throw new TaskFailure(
      `clone failed: can't add VM ${job.newid} to pool '${job.pool}': ${causeOf(error)}`,
      {
        ...createdLine(job, guest, undefined),
        effect: job.target !== task.node,
        params: { ...createdLine(job, guest, undefined).params, left },
      },
    );
  }
  return { ...createdLine(job, guest, job.pool), effect: true };
}

function createdLine(job: CloneJob, guest: WorldGuest, pool: string | undefined): TaskResult {
  return {
    node: guest.node,
    vmid: guest.vmid,
    incarnation: guest.incarnation,
    params: {
      source: job.source.vmid,
      sourceIncarnation: job.source.incarnation,
      mode: job.isFull ? 'full' : 'linked',
      pool,
      mark: markLine(guest),
      mac: macOf(guest),
      name: guest.config['name'],
    },
  };
}

/** The firewall file is copied under a lock of its own. */
async function copyFirewall(pve: Pve, user: LockUser, newid: number): Promise<void> {
  await pve.locks.with(user, `firewall-vm-${newid}`, (signal) =>
    pve.context.clock.sleep(drawMs(pve.context, 'cluster-write', newid), signal),
  );
}

/** Writes the temporary config, which is what reserves the id: unique in the whole cluster, for both kinds of guests. */
function reserveId(pve: Pve, task: Task, newid: number): WorldGuest {
  const taken = pve.world.guests.get(newid);
  if (taken?.kind === 'qemu' && taken.node === task.node)
    throw failure(`unable to create VM ${newid}: config file already exists`);
  if (taken)
    throw failure(
      `close (rename) atomic file '/etc/pve/nodes/${task.node}/qemu-server/${newid}.conf' failed: File exists`,
    );
  const guest = newGuest({
    vmid: newid,
    kind: 'qemu',
    node: task.node,
    owner: task.actor,
    incarnation: pve.context.random.stream('incarnation', newid).uuid(),
    config: { description: 'qmclone temporary file\n', lock: 'clone' },
  });
  pve.world.guests.set(newid, guest);
  return guest;
}

/** One drive after the other in key order; the config with its name and description appears after the first. */
async function copyDisks(
  pve: Pve,
  task: Task,
  user: LockUser,
  job: CloneJob,
  guest: WorldGuest,
  made: string[],
): Promise<void> {
  const config = newConfig(pve, job);
  const drives = disksOf(job.config).filter((disk) => !disk.key.startsWith('unused'));
  for (const disk of drives) {
    const storage = job.storage ?? storageOf(pve, disk.storage);
    const isCopy = job.isFull || disk.isCloudInit || disk.key === 'tpmstate0';
    task.log(`create ${isCopy ? 'full' : 'linked'} clone of drive ${disk.key} (${disk.volid})`);
    const base = volumeOf(pve, disk.volid, task.node);
    const volid = await allocate(pve, user, storage, {
      vmid: job.newid,
      node: task.node,
      sizeGiB: base?.sizeGiB ?? 0,
      usedGiB: isCopy ? (base?.usedGiB ?? 0) : 0,
      isCloudInit: disk.isCloudInit,
      format: job.format,
      ...(isCopy ? {} : { parent: disk.volid }),
    });
    made.push(volid);
    await pve.context.clock.sleep(drawMs(pve.context, 'clone-step', job.newid), task.signal);
    if (isCopy && !disk.isCloudInit)
      await copyBlocks(pve, user, storage, sizeGiB(disk.options['size'] ?? '0G'));
    config[disk.key] = formatDisk(volid, disk.options);
    guest.config = { ...config, lock: 'clone' };
  }
  guest.config = { ...config, lock: 'clone' };
}

/** Every other key is copied; MAC addresses, SMBIOS UUID and generation id are new. Drives are added one by one. */
function newConfig(pve: Pve, job: CloneJob): Record<string, string> {
  const random = pve.context.random.stream('clone', job.newid);
  const config: Record<string, string> = {};
  for (const [key, value] of Object.entries(job.config)) {
    if (
      ['template', 'lock', 'name', 'description', 'parent', 'vmstate'].includes(key) ||
      disksOf({ [key]: value }).length > 0
    )
      continue;
    if (/^net[0-9]+$/.test(key)) config[key] = value.replace(/=[0-9A-Fa-f:]{17}/, `=${randomMac(random)}`);
    else if (key === 'smbios1') config[key] = value.replace(/uuid=[0-9a-f-]+/, `uuid=${random.uuid()}`);
    else if (key === 'vmgenid') config[key] = random.uuid();
    else config[key] = value;
  }
  config['name'] = job.name;
  config['meta'] = metaLine(pve.context);
  if (job.description !== undefined && job.description !== '') config['description'] = job.description;
  return config;
}

function causeOf(error: unknown): string {
  if (error instanceof Interrupted) return 'interrupted by signal';
  return error instanceof Error ? error.message : String(error);
}
