import type { FiredFaults } from '../faults.js';
import { poolOf, type WorldGuest, type WorldStorage } from '../world.js';
import { need } from './auth.js';
import { copyBlocks } from './copy-blocks.js';
import { drawMs } from './durations.js';
import { disksOf, formatDisk, markLine, macOf, randomMac, sizeGiB } from './guest-config.js';
import type { LockUser } from './locks.js';
import { OPTIONAL_DESCRIPTION, OPTIONAL_DNS_NAME, OPTIONAL_FLAG, OPTIONAL_TEXT, VMID } from './params.js';
import { checkUnlocked, guestOn, type Handled, type Pve, type PveCall, type Route } from './pve.js';
import { joinPool } from './join-pool.js';
import { needBridge } from './qemu-rights.js';
import { lockFile } from './qemu-task.js';
import { TaskFailure, type Task, type TaskResult } from './task-engine.js';
import { allocate, free, occupyStorages, ownName, storageOf, volumeOf } from './volumes.js';
import { failure, forbidden } from './wire.js';
import { Interrupted } from '../clock.js';

export const cloneRoute: Route = {
  method: 'POST',
  path: '/nodes/{node}/qemu/{vmid}/clone',
  op: 'qemu.clone',
  kind: 'fork',
  params: {
    newid: VMID,
    name: OPTIONAL_DNS_NAME,
    description: OPTIONAL_DESCRIPTION,
    pool: OPTIONAL_TEXT,
    snapname: { type: 'string', optional: true, maxLength: 40 },
    storage: OPTIONAL_TEXT,
    format: { type: 'string', optional: true, enum: ['raw', 'qcow2', 'vmdk'] },
    full: OPTIONAL_FLAG,
    target: OPTIONAL_TEXT,
    bwlimit: { type: 'integer', optional: true, minimum: 0 },
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
  readonly newid: number;
  readonly name: string;
  readonly description: string | undefined;
  readonly pool: string | undefined;
  readonly isFull: boolean;
  readonly target: string;
  readonly storage: WorldStorage | undefined;
  readonly faults: FiredFaults;
}

function startClone(call: PveCall): Handled {
  const { pve, node, vmid, params, account } = call;
  const { world } = pve;
  const pool = params.text('pool');
  if (pool !== undefined && !world.pools.has(pool)) throw forbidden(`pool '${pool}' does not exist`);
  const target = params.text('target') ?? node;
  if (!world.nodes.some(({ name }) => name === target)) throw failure(`no such cluster node '${target}'`);
  const source = guestOn(pve, node, vmid);
  checkUnlocked(source);
  const snapshot = params.text('snapname');
  if (snapshot !== undefined) throw failure(`snapshot '${snapshot}' does not exist`);
  const isTemplate = source.config['template'] === '1';
  const isFull = !isTemplate || (params.flag('full') ?? false);
  for (const key of ['storage', 'format'])
    if (!isFull && params.has(key)) throw failure(`parameter '${key}' not allowed for linked clones`);
  const storage = params.has('storage') ? storageOf(pve, params.need('storage')) : undefined;
  checkStorages(call, source, target, storage);
  for (const [key, value] of Object.entries(source.config))
    if (/^net[0-9]+$/.test(key)) needBridge(call, value);
  pve.conditions.needQuorum();
  const newid = params.number('newid')!;
  const taken = world.guests.get(newid);
  if (taken?.kind === 'qemu' && taken.node === node)
    throw failure(`unable to create VM ${newid}: config file already exists`);
  const job: CloneJob = {
    source,
    newid,
    name: params.text('name') ?? `Copy-of-VM-${source.config['name'] ?? vmid}`,
    description: params.text('description'),
    pool,
    isFull,
    target,
    storage,
    faults: call.faults,
  };
  const setup = {
    node,
    type: 'qmclone',
    id: String(vmid),
    actor: account.id,
    op: call.op,
    vmid: newid,
    faults: call.faults,
  };
  const task = pve.tasks.start(setup, (running) => runClone(pve, running, job));
  return {
    data: task.upid,
    journal: { upid: task.upid, params: { source: vmid, pool, target, full: isFull } },
  };
}

function checkStorages(
  call: PveCall,
  source: WorldGuest,
  target: string,
  chosen: WorldStorage | undefined,
): void {
  const { pve, node, account } = call;
  for (const disk of disksOf(source.config)) {
    const own = storageOf(pve, disk.storage);
    if (target !== node && !own.shared)
      throw failure(`can't clone VM to node '${target}' (VM uses local storage)`);
    const storage = chosen ?? own;
    if (target !== node && !storage.shared)
      throw failure(`can't clone to non-shared storage '${storage.id}'`);
    need(account, `/storage/${storage.id}`, 'Datastore.AllocateSpace');
  }
}

async function runClone(pve: Pve, task: Task, job: CloneJob): Promise<TaskResult> {
  const { source, newid } = job;
  const node = task.node;
  const user: LockUser = {
    actor: task.actor,
    node,
    vmid: newid,
    upid: task.upid,
    signal: task.signal,
    log: (line) => task.log(line),
  };
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
    const storages = disksOf(job.source.config).map((disk) => job.storage?.id ?? disk.storage);
    if (job.faults.holdLockMs > 0) occupyStorages(pve, task.node, storages, job.faults.holdLockMs);
    await copyDisks(pve, task, user, job, guest, made);
    pve.conditions.needQuorum();
    delete guest.config['lock'];
    guest.node = job.target;
  } catch (error) {
    const left = job.faults.own('skip-cleanup')
      ? made.map(ownName)
      : await freeAll(pve, { ...user, signal: undefined }, made, job.newid);
    pve.world.guests.delete(job.newid);
    throw new TaskFailure(`clone failed: ${causeOf(error)}`, { effect: false, params: { left } });
  }
  try {
    if (job.pool !== undefined) await joinPool(pve, user, job.pool, job.newid);
  } catch (error) {
    const left = await freeAll(pve, { ...user, signal: undefined }, made, job.newid);
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

/** Writes the temporary config, which is what reserves the id: unique in the whole cluster, for both kinds of guests. */
function reserveId(pve: Pve, task: Task, newid: number): WorldGuest {
  const taken = pve.world.guests.get(newid);
  if (taken?.kind === 'qemu' && taken.node === task.node)
    throw failure(`unable to create VM ${newid}: config file already exists`);
  if (taken)
    throw failure(
      `close (rename) atomic file '/etc/pve/nodes/${task.node}/qemu-server/${newid}.conf' failed: File exists`,
    );
  const guest: WorldGuest = {
    vmid: newid,
    kind: 'qemu',
    node: task.node,
    owner: task.actor,
    incarnation: pve.context.random.stream('incarnation', newid).uuid(),
    config: { description: 'qmclone temporary file\n', lock: 'clone' },
    pending: {},
    status: 'stopped',
    startedAtMs: 0,
    agentUpAtMs: 0,
    address: undefined,
    isPaused: false,
    cloudInit: {},
    snapshots: new Map(),
    processes: [],
  };
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
  const drives = disksOf(job.source.config).filter((disk) => !disk.key.startsWith('unused'));
  for (const disk of drives) {
    const storage = job.storage ?? storageOf(pve, disk.storage);
    const isCopy = job.isFull || disk.isCloudInit;
    task.log(`create ${isCopy ? 'full' : 'linked'} clone of drive ${disk.key} (${disk.volid})`);
    const base = volumeOf(pve, disk.volid, task.node);
    const volid = await allocate(pve, user, storage, {
      vmid: job.newid,
      node: task.node,
      sizeGiB: base?.sizeGiB ?? 0,
      usedGiB: isCopy ? (base?.usedGiB ?? 0) : 0,
      isCloudInit: disk.isCloudInit,
      ...(isCopy ? {} : { parent: disk.volid }),
    });
    made.push(volid);
    await pve.context.clock.sleep(drawMs(pve.context, 'clone-step', job.newid), task.signal);
    if (job.isFull && !disk.isCloudInit)
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
  for (const [key, value] of Object.entries(job.source.config)) {
    if (
      ['template', 'lock', 'name', 'description', 'parent', 'snaptime'].includes(key) ||
      disksOf({ [key]: value }).length > 0
    )
      continue;
    if (/^net[0-9]+$/.test(key)) config[key] = value.replace(/=[0-9A-Fa-f:]{17}/, `=${randomMac(random)}`);
    else if (key === 'smbios1') config[key] = value.replace(/uuid=[0-9a-f-]+/, `uuid=${random.uuid()}`);
    else if (key === 'vmgenid') config[key] = random.uuid();
    else config[key] = value;
  }
  config['name'] = job.name;
  if (job.description !== undefined && job.description !== '') config['description'] = job.description;
  return config;
}

/** Gives the volumes that could not be removed. */
async function freeAll(pve: Pve, user: LockUser, volids: readonly string[], vmid: number): Promise<string[]> {
  const left: string[] = [];
  for (const volid of volids) {
    try {
      await free(pve, user, volid, vmid);
    } catch (error) {
      user.log?.(causeOf(error));
      left.push(ownName(volid));
    }
  }
  return left;
}

function causeOf(error: unknown): string {
  if (error instanceof Interrupted) return 'interrupted by signal';
  return error instanceof Error ? error.message : String(error);
}
