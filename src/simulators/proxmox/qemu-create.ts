import { newGuest, poolOf, type WorldGuest } from '../world.js';
import { need } from './auth.js';
import { drawMs } from './durations.js';
import { FORMATS } from './formats.js';
import { disksOf, macOf, markLine, metaLine } from './guest-config.js';
import { joinPool } from './join-pool.js';
import type { LockUser } from './locks.js';
import { OPTIONAL_COUNT, OPTIONAL_FLAG, OPTIONAL_TEXT, VMID } from './params.js';
import { powerTask } from './power.js';
import type { Handled, Pve, PveCall, Route } from './pve.js';
import { storedValue } from './qemu-config-write.js';
import { checkDrive, isDrive, placeDrive } from './qemu-drives.js';
import { QEMU_CONFIG_PARAMS } from './qemu-keys.js';
import { needBridge, needKeys, needOnGuest } from './qemu-rights.js';
import { lockFile, lockUser } from './guest-task.js';
import { checkEncodedSshKeys } from './ssh-keys.js';
import { TaskFailure, type Task, type TaskResult } from './task-engine.js';
import { freeAll, occupyStorages, ownName } from './volumes.js';
import { failure, forbidden } from './wire.js';

const STORAGE = { ...OPTIONAL_TEXT, format: FORMATS['pve-storage-id'] };
const RESERVE_MS = 5_000;
const CREATE_MS = 1_000;
/** Parameters that are no keys. */
const OPTIONS = new Set([
  ...['vmid', 'archive', 'bwlimit', 'force', 'ha-managed', 'import-working-storage', 'live-restore', 'pool'],
  ...['start', 'storage', 'unique'],
]);

export const createRoute: Route = {
  method: 'POST',
  path: '/nodes/{node}/qemu',
  op: 'qemu.create',
  kind: 'fork',
  params: {
    ...QEMU_CONFIG_PARAMS,
    vmid: VMID,
    archive: { ...OPTIONAL_TEXT, maxLength: 255 },
    bwlimit: OPTIONAL_COUNT,
    force: { ...OPTIONAL_FLAG, requires: 'archive' },
    'ha-managed': { ...OPTIONAL_FLAG, version: '9.1' },
    'import-working-storage': STORAGE,
    'live-restore': OPTIONAL_FLAG,
    pool: { ...OPTIONAL_TEXT, format: FORMATS['pve-poolid'] },
    start: OPTIONAL_FLAG,
    storage: STORAGE,
    unique: { ...OPTIONAL_FLAG, requires: 'archive' },
  },
  handle: startCreate,
};

type Keys = readonly [key: string, value: string][];

async function startCreate(call: PveCall): Promise<Handled> {
  const { pve, node, params, account, op, faults } = call;
  const vmid = params.number('vmid')!;
  const pool = params.text('pool');
  const keys = params
    .entries()
    .filter(([key]) => !OPTIONS.has(key))
    .map(([key, value]): [string, string] =>
      key === 'cdrom' ? ['ide2', `${value},media=cdrom`] : [key, value],
    );
  checkRights(call, vmid, pool, keys);
  const guest = await reserve(call, vmid);
  const setup = { node, type: 'qmcreate', id: String(vmid), actor: account.id, op, vmid, faults };
  const task = pve.tasks.start(setup, (running) => createNow(call, running, guest, pool, keys));
  return { data: task.upid, journal: { upid: task.upid, vmid, params: { pool } } };
}

/** Nothing is declared for this call: everything is tested here, after the parameters. */
function checkRights(call: PveCall, vmid: number, pool: string | undefined, keys: Keys): void {
  const { pve, account, params } = call;
  if (pool !== undefined && !pve.world.pools.has(pool)) throw forbidden(`pool '${pool}' does not exist`);
  const mayAllocate =
    account.at(`/vms/${vmid}`).has('VM.Allocate') ||
    (pool !== undefined && account.at(`/pool/${pool}`).has('VM.Allocate'));
  if (!mayAllocate) throw forbidden();
  if (params.flag('start')) needOnGuest(account, { vmid, pool }, 'VM.PowerMgmt');
  if (params.flag('ha-managed')) need(account, '/', 'Sys.Console');
  if (params.has('archive'))
    throw failure(`unable to restore VM ${vmid} - there are no backups in this simulated cluster`);
  needKeys(call, { vmid, pool }, keys);
  for (const [key, value] of keys) {
    if (isDrive(key)) checkDrive(call, vmid, key, value);
    if (/^net[0-9]+$/.test(key) && !account.isRoot) needBridge(call, value);
    if (key === 'sshkeys' && value !== '') checkEncodedSshKeys(value);
  }
}

/** Writes the config with `lock: create`, which is what reserves the id, before the call is answered. */
function reserve({ pve, node, account }: PveCall, vmid: number): Promise<WorldGuest> {
  const user: LockUser = { actor: account.id, node, vmid };
  return unableTo(vmid, () =>
    pve.files.with(user, lockFile(vmid), 'exclusive', RESERVE_MS, async () => {
      const taken = pve.world.guests.get(vmid);
      if (taken)
        throw failure(
          `${taken.kind === 'qemu' ? 'VM' : 'CT'} ${vmid} already exists on node '${taken.node}'`,
        );
      pve.conditions.needQuorum();
      const guest = newGuest({
        vmid,
        kind: 'qemu',
        node,
        owner: account.id,
        incarnation: pve.context.random.stream('incarnation', vmid).uuid(),
        config: { lock: 'create' },
      });
      pve.world.guests.set(vmid, guest);
      await pve.context.clock.sleep(drawMs(pve.context, 'cluster-write', vmid));
      return guest;
    }),
  );
}

async function unableTo<T>(vmid: number, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw failure(`unable to create VM ${vmid} - ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Disks first, then the config, then the pool. When it fails the config goes; disks only if it failed before the pool. */
async function createNow(
  call: PveCall,
  task: Task,
  guest: WorldGuest,
  pool: string | undefined,
  keys: Keys,
): Promise<TaskResult> {
  const { pve, params } = call;
  const { vmid } = guest;
  const user = lockUser(task);
  task.did(() => ({ ...createdLine(pve, guest), effect: true }));
  const made: string[] = [];
  let hasDisks = false;
  try {
    await pve.files.with(user, lockFile(vmid), 'exclusive', CREATE_MS, async () => {
      await unableTo(vmid, () => fill(call, task, user, guest, keys, made));
      hasDisks = true;
      if (pool !== undefined) await joinPool(pve, user, pool, vmid);
    });
  } catch (error) {
    const left = hasDisks ? made.map(ownName) : await freeAll(pve, user, made, vmid);
    if (pve.world.guests.get(vmid) === guest) pve.world.guests.delete(vmid);
    const text = error instanceof Error ? error.message : String(error);
    throw new TaskFailure(text, { effect: false, params: { left } });
  }
  if (params.flag('ha-managed')) manageByHa(pve, `vm:${vmid}`, params.flag('start') ?? false);
  else if (params.flag('start')) startAfter(call, task, vmid);
  return { ...createdLine(pve, guest), effect: true };
}

async function fill(
  { pve, faults }: PveCall,
  task: Task,
  user: LockUser,
  guest: WorldGuest,
  keys: Keys,
  made: string[],
): Promise<void> {
  const random = pve.context.random.stream('create', guest.vmid);
  const config: Record<string, string> = {};
  for (const [key, value] of keys) if (!isDrive(key)) config[key] = storedValue(pve, guest.vmid, key, value);
  await task.pass('task');
  const drives = keys.filter(([key]) => isDrive(key));
  if (faults.holdLockMs > 0)
    occupyStorages(
      pve,
      task.node,
      drives.flatMap(([, value]) => /^([^:,]+):/.exec(value)?.[1] ?? []),
      faults.holdLockMs,
    );
  for (const [key, value] of drives) {
    const draft = { ...guest, config: { ...config } };
    config[key] = await placeDrive(pve, user, draft, key, value, made);
  }
  config['boot'] ??= defaultBoot(config);
  config['smbios1'] ??= `uuid=${random.uuid()}`;
  if ((config['vmgenid'] ?? '1') === '1') config['vmgenid'] = random.uuid();
  config['meta'] = metaLine(pve.context);
  guest.config = config;
  await pve.context.clock.sleep(drawMs(pve.context, 'cluster-write', guest.vmid), user.signal);
}

/** First disk, then CD drives, then network cards. */
function defaultBoot(config: Readonly<Record<string, string>>): string {
  const order = disksOf(config)
    .filter((disk) => /^(scsi|virtio|sata|ide)/.test(disk.key) && !disk.isCloudInit)
    .map((disk) => disk.key)
    .slice(0, 1);
  const drives = Object.keys(config).filter(
    (key) => /^(ide|sata|scsi)[0-9]+$/.test(key) && config[key]?.includes('media=cdrom'),
  );
  const cards = Object.keys(config).filter((key) => /^net[0-9]+$/.test(key));
  return `order=${[...order, ...drives.sort(), ...cards.sort().slice(0, 1)].join(';')}`;
}

export function manageByHa(pve: Pve, sid: string, isStarted: boolean): void {
  pve.world.ha.resources.set(sid, {
    state: isStarted ? 'started' : 'stopped',
    maxRestart: 1,
    maxRelocate: 1,
    failback: true,
    comment: undefined,
    group: undefined,
  });
}

/** In a task of its own; whether it comes up is not this task's business. */
function startAfter(call: PveCall, task: Task, vmid: number): void {
  const { pve, node, account } = call;
  task.log('Execute autostart');
  const faults = pve.context.faults.match({ sim: 'proxmox', op: 'qemu.start', node, vmid });
  powerTask({ pve, node, vmid, account, op: 'qemu.start', faults }, 'start');
}

function createdLine(pve: Pve, guest: WorldGuest): TaskResult {
  return {
    node: guest.node,
    vmid: guest.vmid,
    incarnation: guest.incarnation,
    params: {
      pool: poolOf(pve.world, guest.vmid),
      mark: markLine(guest),
      mac: macOf(guest),
      name: guest.config['name'],
    },
  };
}
