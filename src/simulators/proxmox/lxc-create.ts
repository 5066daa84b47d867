import { newGuest, poolOf, type WorldGuest } from '../world.js';
import { need } from './auth.js';
import { drawMs } from './durations.js';
import { FORMATS } from './formats.js';
import { disksOf, macOf, markLine } from './guest-config.js';
import { FLOCK_MS, lockFile, lockUser } from './guest-task.js';
import { joinPool } from './join-pool.js';
import type { LockUser } from './locks.js';
import { storedContainerValue } from './lxc-config-write.js';
import { isMount, LXC_CONFIG_PARAMS } from './lxc-keys.js';
import { mountType, placeMount, readMount, unpack } from './lxc-mounts.js';
import { startContainer } from './lxc-power.js';
import { needContainerKeys } from './lxc-rights.js';
import { OPTIONAL_FLAG, OPTIONAL_TEXT, VMID } from './params.js';
import type { Handled, Pve, PveCall, Route } from './pve.js';
import { manageByHa } from './qemu-create.js';
import { needOnGuest } from './qemu-rights.js';
import { checkSshKeys } from './ssh-keys.js';
import { fileOf, needVolume, pathOf } from './storage-content.js';
import { TaskFailure, type Task, type TaskResult } from './task-engine.js';
import { freeAll, occupyStorages, storageOf, usableStorage, volumeOf } from './volumes.js';
import { failure, forbidden, parameterErrors } from './wire.js';

const RESERVE_MS = 5_000;
/** What a system takes once it is unpacked. */
const SYSTEM_GIB = 0.8;
const DEFAULT_GIB = 4;
/** Parameters that are no keys of the config. */
const OPTIONS = new Set([
  ...['vmid', 'bwlimit', 'force', 'ha-managed', 'ignore-unpack-errors', 'ostemplate', 'password', 'pool'],
  ...['restore', 'ssh-public-keys', 'start', 'storage', 'unique', 'unprivileged'],
]);

export const lxcCreateRoute: Route = {
  method: 'POST',
  path: '/nodes/{node}/lxc',
  op: 'lxc.create',
  kind: 'fork',
  params: {
    ...LXC_CONFIG_PARAMS,
    vmid: VMID,
    bwlimit: { type: 'number', optional: true, minimum: 0 },
    force: OPTIONAL_FLAG,
    'ha-managed': { ...OPTIONAL_FLAG, version: '9.1' },
    'ignore-unpack-errors': OPTIONAL_FLAG,
    ostemplate: { type: 'string', maxLength: 255 },
    password: { ...OPTIONAL_TEXT, minLength: 5 },
    pool: { ...OPTIONAL_TEXT, format: FORMATS['pve-poolid'] },
    restore: OPTIONAL_FLAG,
    'ssh-public-keys': OPTIONAL_TEXT,
    start: OPTIONAL_FLAG,
    storage: { ...OPTIONAL_TEXT, format: FORMATS['pve-storage-id'] },
    unique: { ...OPTIONAL_FLAG, requires: 'restore' },
  },
  handle: startCreate,
};

/** What is to be made, as far as it can be told before anything is done. */
interface Draft {
  readonly vmid: number;
  readonly pool: string | undefined;
  readonly archive: string;
  /** Key, value: all that goes into the config as it is. */
  readonly keys: readonly [string, string][];
  readonly mounts: readonly [string, ReturnType<typeof readMount>][];
  readonly isUnprivileged: boolean;
}

async function startCreate(call: PveCall): Promise<Handled> {
  const { pve, node, account, op, faults } = call;
  const draft = readDraft(call);
  checkDraft(call, draft);
  const guest = await reserve(call, draft.vmid);
  const { vmid, pool } = draft;
  const revoke = (): void => void pve.world.guests.delete(vmid);
  const setup = { node, type: 'vzcreate', id: String(vmid), actor: account.id, op, vmid, faults, revoke };
  const task = pve.tasks.start(setup, (running) => createNow(call, running, guest, draft));
  return { data: task.upid, journal: { upid: task.upid, vmid, params: { pool } } };
}

/** Containers are unprivileged unless they were asked not to be; before version 9 it was the other way round. */
function readDraft({ pve, params }: PveCall): Draft {
  const keys = params.entries().filter(([key]) => !OPTIONS.has(key) && !/^unused[0-9]+$/.test(key));
  const storage = params.text('storage') ?? 'local';
  const mounts = keys.filter(([key]) => isMount(key));
  const all: [string, string][] = mounts.length > 0 ? mounts : [['rootfs', `${storage}:${DEFAULT_GIB}`]];
  return {
    vmid: params.number('vmid')!,
    pool: params.text('pool'),
    archive: params.need('ostemplate'),
    keys: keys.filter(([key]) => !isMount(key)),
    mounts: all.map(([key, value]) => [key, readMount(value, storage)]),
    isUnprivileged: params.flag('unprivileged') ?? pve.world.version === '9.1',
  };
}

/** Nothing is declared for this call: everything is tested here, after the parameters. */
function checkDraft(call: PveCall, draft: Draft): void {
  const { pve, node, account, params } = call;
  const { vmid, pool, mounts } = draft;
  if (params.flag('restore')) throw failure('there are no backups in this simulated cluster');
  checkUnused(pve, vmid);
  const keys = params.text('ssh-public-keys');
  if (keys !== undefined) checkSshKeys(keys);
  if (pool !== undefined && !pve.world.pools.has(pool)) throw forbidden(`pool '${pool}' does not exist`);
  const mayAllocate =
    account.at(`/vms/${vmid}`).has('VM.Allocate') ||
    (pool !== undefined && account.at(`/pool/${pool}`).has('VM.Allocate'));
  if (!mayAllocate) throw forbidden();
  const before = { config: {}, isUnprivileged: draft.isUnprivileged };
  const given = params.entries().filter(([key]) => !OPTIONS.has(key));
  needContainerKeys(call, { vmid, pool }, before, given);
  if (!draft.isUnprivileged && pve.world.version === '9.1') need(account, '/', 'Sys.Modify');
  if (params.flag('start')) needOnGuest(account, { vmid, pool }, 'VM.PowerMgmt');
  if (params.flag('ha-managed')) need(account, '/', 'Sys.Console');
  checkArchive(call, draft);
  if (!mounts.some(([key]) => key === 'rootfs'))
    throw failure("mount points configured, but 'rootfs' not set - aborting");
  for (const [, mount] of mounts) {
    if (mountType(mount) !== 'volume') continue;
    const id = mount.storage ?? '';
    if (!usableStorage(pve, id, node).content.includes('rootdir'))
      throw parameterErrors({ storage: `storage '${id}' does not support container directories` });
    need(account, `/storage/${id}`, 'Datastore.AllocateSpace');
  }
}

function checkArchive(call: PveCall, { vmid, archive }: Draft): void {
  if (!archive.includes(':')) {
    if (!call.account.isRoot) throw forbidden('Only root can pass arbitrary filesystem paths.');
    throw failure(`unable to parse volume ID '${archive}'`);
  }
  if (!/^[^:]+:vztmpl\//.test(archive))
    throw failure(`unable to use volume ${archive} - content type needs to be 'vztmpl'`);
  storageOf(call.pve, archive.slice(0, archive.indexOf(':')));
  if (!call.account.isRoot) needVolume(call, vmid, archive);
}

/** Both kinds of guests share the ids. */
export function checkUnused(pve: Pve, vmid: number): void {
  const taken = pve.world.guests.get(vmid);
  if (taken)
    throw failure(`${taken.kind === 'qemu' ? 'VM' : 'CT'} ${vmid} already exists on node '${taken.node}'`);
}

/** Writes the config with `lock: create`, which is what reserves the id, before the call is answered. */
async function reserve(call: PveCall, vmid: number): Promise<WorldGuest> {
  try {
    return await reserveContainer(call, vmid);
  } catch (error) {
    throw failure(`unable to create CT ${vmid} - ${textOfError(error)}`);
  }
}

export function reserveContainer({ pve, node, account }: PveCall, vmid: number): Promise<WorldGuest> {
  const user: LockUser = { actor: account.id, node, vmid };
  return pve.files.with(user, lockFile(vmid, 'lxc'), 'exclusive', RESERVE_MS, async () => {
    checkUnused(pve, vmid);
    pve.conditions.needQuorum();
    const guest = newGuest({
      vmid,
      kind: 'lxc',
      node,
      owner: account.id,
      incarnation: pve.context.random.stream('incarnation', vmid).uuid(),
      config: { lock: 'create' },
    });
    pve.world.guests.set(vmid, guest);
    await pve.context.clock.sleep(drawMs(pve.context, 'cluster-write', vmid));
    return guest;
  });
}

/** Volumes, then the system in them, then the config, all under the flock; then the pool. If it fails nothing stays, but what the pool would not take. */
async function createNow(call: PveCall, task: Task, guest: WorldGuest, draft: Draft): Promise<TaskResult> {
  const { pve, params } = call;
  const { vmid, pool } = draft;
  const user = lockUser(task);
  task.did(() => ({ ...createdLine(pve, guest), effect: true }));
  await pve.files.with(user, lockFile(vmid, 'lxc'), 'exclusive', FLOCK_MS, async () => {
    await fillOrRemove(call, task, user, guest, draft);
    try {
      if (pool !== undefined) await joinPool(pve, user, pool, vmid);
    } catch (error) {
      throw new TaskFailure(textOfError(error), { ...createdLine(pve, guest), effect: true });
    }
  });
  if (params.flag('ha-managed')) manageByHa(pve, `ct:${vmid}`, params.flag('start') ?? false);
  else if (params.flag('start')) startAfter(call, vmid);
  return { ...createdLine(pve, guest), effect: true };
}

async function fillOrRemove(
  call: PveCall,
  task: Task,
  user: LockUser,
  guest: WorldGuest,
  draft: Draft,
): Promise<void> {
  const { pve } = call;
  const made: string[] = [];
  try {
    await fill(call, task, user, guest, draft, made);
  } catch (error) {
    const left = await freeAll(pve, user, made, guest.vmid);
    if (pve.world.guests.get(guest.vmid) === guest) pve.world.guests.delete(guest.vmid);
    const text = `unable to create CT ${guest.vmid} - ${textOfError(error)}`;
    throw new TaskFailure(text, { effect: false, params: { left } });
  }
}

async function fill(
  call: PveCall,
  task: Task,
  user: LockUser,
  guest: WorldGuest,
  draft: Draft,
  made: string[],
): Promise<void> {
  const { pve, faults } = call;
  const { vmid, mounts, archive } = draft;
  await task.pass('task');
  const storages = mounts.flatMap(([, { storage }]) => storage ?? []);
  if (faults.holdLockMs > 0) occupyStorages(pve, task.node, storages, faults.holdLockMs);
  const config: Record<string, string> = {};
  for (const [key, mount] of mounts) config[key] = await placeMount(pve, user, guest, mount, made);
  const storage = usableStorage(pve, archive.slice(0, archive.indexOf(':')), task.node);
  if (!fileOf(pve, archive, task.node)) throw failure(`volume '${archive}' does not exist`);
  task.log(`extracting archive '${pathOf(storage, archive)}'`);
  const [root] = disksOf({ rootfs: config['rootfs']! });
  await unpack(pve, user, root?.storage ?? '', vmid);
  const volume = root && volumeOf(pve, root.volid, task.node);
  if (volume) volume.usedGiB = SYSTEM_GIB;
  task.log('Detected container architecture: amd64');
  pve.conditions.needQuorum();
  guest.config = { ...config, ...configOf(pve, draft) };
  guest.files = filesOf(call);
  await pve.context.clock.sleep(drawMs(pve.context, 'container-setup', vmid), user.signal);
}

function configOf(pve: Pve, { vmid, keys, archive, isUnprivileged }: Draft): Record<string, string> {
  return {
    arch: 'amd64',
    hostname: `CT${vmid}`,
    memory: '512',
    ostype: systemOf(archive),
    swap: '512',
    ...Object.fromEntries(keys.map(([key, value]) => [key, storedContainerValue(pve, vmid, key, value)])),
    ...(isUnprivileged ? { unprivileged: '1' } : {}),
  };
}

/** What the real code finds in the unpacked system, told from the archive's name. */
function systemOf(archive: string): string {
  return (
    /\/(debian|devuan|ubuntu|centos|fedora|opensuse|archlinux|alpine|gentoo)/.exec(archive)?.[1] ??
    'unmanaged'
  );
}

/** Keys and password go into the system, nowhere else. */
function filesOf({ params }: PveCall): Map<string, string> {
  const keys = params.text('ssh-public-keys');
  return new Map(
    keys === undefined ? [] : [['/root/.ssh/authorized_keys', Buffer.from(keys).toString('base64')]],
  );
}

/** In a task of its own; whether it comes up is not this task's business. */
function startAfter({ pve, node, account }: PveCall, vmid: number): void {
  const faults = pve.context.faults.match({ sim: 'proxmox', op: 'lxc.start', node, vmid });
  startContainer({ pve, node, vmid, account, op: 'lxc.start', faults });
}

export function createdLine(pve: Pve, guest: WorldGuest): TaskResult {
  return {
    node: guest.node,
    vmid: guest.vmid,
    incarnation: guest.incarnation,
    params: {
      pool: poolOf(pve.world, guest.vmid),
      mark: markLine(guest),
      mac: macOf(guest),
      name: guest.config['hostname'],
    },
  };
}

export function textOfError(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
