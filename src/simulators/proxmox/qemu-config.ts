import type { WorldGuest } from '../world.js';
import { need, needAny } from './auth.js';
import { FORMATS } from './formats.js';
import { digestOf, shownConfig, shownKeys } from './guest-config.js';
import { OPTIONAL_FLAG, OPTIONAL_TEXT, type ParamSpecs } from './params.js';
import { checkUnlocked, guestOn, type Handled, type PveCall, type Route } from './pve.js';
import { removeKey, writeKey } from './qemu-config-write.js';
import { checkDrive, isDrive } from './qemu-drives.js';
import { CONFIG_PRIVILEGES, QEMU_CONFIG_PARAMS, specOfKey } from './qemu-keys.js';
import { needBridge, needKeys } from './qemu-rights.js';
import { checkRootParams, FLOCK_MS, forkLocked, lockFile } from './guest-task.js';
import { snapshotOf } from './snapshot.js';
import { checkEncodedSshKeys } from './ssh-keys.js';
import { macOf, markLine } from './guest-config.js';
import type { LockUser } from './locks.js';
import type { TaskResult } from './task-engine.js';
import { drawMs } from './durations.js';
import { failure, parameterErrors } from './wire.js';

const CONFIG_IDS = { ...OPTIONAL_TEXT, list: true, format: FORMATS['pve-configid'] } as const;
export const DIGEST = { type: 'string', optional: true, maxLength: 40 } as const;
const WRITE_PARAMS: ParamSpecs = {
  ...QEMU_CONFIG_PARAMS,
  delete: CONFIG_IDS,
  digest: DIGEST,
  force: { ...OPTIONAL_FLAG, requires: 'delete' },
  revert: CONFIG_IDS,
  skiplock: OPTIONAL_FLAG,
};
/** Parameters that are no keys. */
const NO_KEYS = new Set(['delete', 'revert', 'digest', 'force', 'skiplock', 'background_delay', 'idlist']);

const permitWrite: Route['permit'] = (account, path) =>
  needAny(account, `/vms/${path['vmid']}`, ...CONFIG_PRIVILEGES);

export const configRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/nodes/{node}/qemu/{vmid}/config',
    op: 'qemu.config.get',
    kind: 'read',
    params: {
      current: OPTIONAL_FLAG,
      snapshot: { ...OPTIONAL_TEXT, maxLength: 40, format: FORMATS['pve-configid'] },
    },
    permit: (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Audit'),
    handle: readConfig,
  },
  {
    method: 'GET',
    path: '/nodes/{node}/qemu/{vmid}/pending',
    op: 'qemu.pending',
    kind: 'read',
    params: {},
    permit: (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Audit'),
    handle: ({ pve, node, vmid }) => ({ data: pendingOf(guestOn(pve, node, vmid)) }),
  },
  {
    method: 'PUT',
    path: '/nodes/{node}/qemu/{vmid}/config',
    op: 'qemu.config.put',
    kind: 'config-write',
    params: WRITE_PARAMS,
    permit: permitWrite,
    handle: (call) => writeNow(call, changesOf(call)),
  },
  {
    method: 'PUT',
    path: '/nodes/{node}/qemu/{vmid}/unlink',
    op: 'qemu.unlink',
    kind: 'config-write',
    params: {
      force: OPTIONAL_FLAG,
      idlist: { type: 'string', list: true, format: FORMATS['pve-configid'] },
    },
    permit: (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Config.Disk'),
    handle: (call) => writeNow(call, { set: [], removed: call.params.list('idlist'), reverted: [] }),
  },
  {
    method: 'POST',
    path: '/nodes/{node}/qemu/{vmid}/config',
    op: 'qemu.config.post',
    kind: 'fork',
    params: {
      ...WRITE_PARAMS,
      background_delay: { type: 'integer', optional: true, minimum: 1, maximum: 30 },
      'import-working-storage': {
        ...OPTIONAL_TEXT,
        format: FORMATS['pve-storage-id'],
      },
    },
    permit: permitWrite,
    handle: writeInTask,
  },
];

function readConfig({ pve, node, vmid, params }: PveCall): Handled {
  const guest = guestOn(pve, node, vmid);
  const name = params.text('snapshot');
  const isCurrent = params.flag('current') ?? false;
  if (name === undefined) return { data: shownConfig(guest, isCurrent) };
  const both = "cannot use 'snapshot' parameter with 'current'";
  if (isCurrent) throw parameterErrors({ snapshot: both, current: both });
  return { data: { ...shownKeys(snapshotOf(guest, name).config, 'qemu'), digest: digestOf(guest) } };
}

/** Every key with its value now and the one that waits. */
export function pendingOf(guest: WorldGuest): unknown[] {
  const now = shownKeys(guest.config, guest.kind);
  const keys = new Set([...Object.keys(guest.config), ...Object.keys(guest.pending)]);
  return [...keys].sort().map((key) => {
    const waiting = guest.pending[key];
    return {
      key,
      ...(now[key] === undefined ? {} : { value: now[key] }),
      ...(typeof waiting === 'string' ? { pending: shownKeys({ [key]: waiting }, guest.kind)[key] } : {}),
      ...(waiting === null ? { delete: 1 } : {}),
    };
  });
}

interface Changes {
  readonly set: readonly [key: string, value: string][];
  readonly removed: readonly string[];
  readonly reverted: readonly string[];
}

/** `cdrom` is another name of `ide2`. */
function changesOf({ params }: PveCall): Changes {
  const set = params
    .entries()
    .filter(([key]) => !NO_KEYS.has(key) && key !== 'import-working-storage')
    .map(([key, value]): [string, string] =>
      key === 'cdrom' ? ['ide2', `${value},media=cdrom`] : [key, value],
    );
  const [removed, reverted] = [params.list('delete'), params.list('revert')];
  for (const key of removed) {
    if (params.has(key))
      throw parameterErrors({ delete: `you can't use '-${key}' and -delete ${key}' at the same time` });
    if (reverted.includes(key))
      throw parameterErrors({
        revert: `you can't use '-delete ${key}' and '-revert ${key}' at the same time`,
      });
    if (!specOfKey(key)) throw parameterErrors({ delete: `unknown option '${key}'` });
  }
  for (const key of reverted) {
    if (!specOfKey(key)) throw parameterErrors({ revert: `unknown option '${key}'` });
    if (params.has(key))
      throw parameterErrors({ revert: `you can't use '-${key}' and '-revert ${key}' at the same time` });
  }
  return { set, removed, reverted };
}

/** What is refused before the lock: rights per key, encodings, drives. */
function checkChanges(call: PveCall, { set, removed, reverted }: Changes): void {
  const { vmid, account, params } = call;
  checkRootParams(call, 'skiplock');
  if (set.length + removed.length + reverted.length === 0) throw failure('no options specified');
  const sshKeys = params.text('sshkeys');
  if (sshKeys !== undefined && sshKeys !== '') checkEncodedSshKeys(sshKeys);
  needKeys(call, { vmid }, [...set, ...[...removed, ...reverted].map((key): [string, null] => [key, null])]);
  for (const [key, value] of set) {
    if (isDrive(key)) checkDrive(call, vmid, key, value);
    if (/^net[0-9]+$/.test(key) && !account.isRoot) needBridge(call, value);
  }
}

function checkFresh({ pve, node, vmid, params }: PveCall): WorldGuest {
  const guest = guestOn(pve, node, vmid);
  const digest = params.text('digest');
  if (digest !== undefined && digest !== digestOf(guest))
    throw failure('checksum mismatch (file change by other user?)');
  if (!params.flag('skiplock')) checkUnlocked(guest);
  return guest;
}

async function writeNow(call: PveCall, changes: Changes): Promise<Handled> {
  checkChanges(call, changes);
  const { pve, node, vmid, account } = call;
  guestOn(pve, node, vmid);
  const user: LockUser = { actor: account.id, node, vmid };
  const journal = await pve.files.with(user, lockFile(vmid), 'exclusive', FLOCK_MS, () =>
    writeLocked(call, user, changes),
  );
  return { data: null, journal };
}

/** The lock is looked at before the fork; `background_delay` gives the task that many seconds to end before its UPID is told. */
async function writeInTask(call: PveCall): Promise<Handled> {
  const changes = changesOf(call);
  checkChanges(call, changes);
  const { pve, node, vmid, account, params } = call;
  guestOn(pve, node, vmid);
  const early: LockUser = { actor: account.id, node, vmid };
  await pve.files.with(early, lockFile(vmid), 'exclusive', FLOCK_MS, async () => checkFresh(call));
  const handled = forkLocked(call, 'qmconfig', (_, user) => writeLocked(call, user, changes));
  const task = pve.tasks.find(node, String(handled.data));
  for (let left = params.number('background_delay') ?? 0; left > 0; left -= 1) {
    if (task?.exitStatus !== undefined) break;
    await pve.context.clock.sleep(1_000);
  }
  if (!params.has('background_delay') || task?.exitStatus === undefined) return handled;
  if (task.exitStatus !== 'OK') throw failure(task.exitStatus);
  return { ...handled, data: null };
}

/** Under the guest's flock: digest and lock are looked at again, then one write. */
async function writeLocked(call: PveCall, user: LockUser, changes: Changes): Promise<TaskResult> {
  const { pve, vmid, params } = call;
  const guest = checkFresh(call);
  const digestBefore = digestOf(guest);
  pve.conditions.needQuorum();
  await pve.context.clock.sleep(drawMs(pve.context, 'cluster-write', vmid), user.signal);
  for (const key of changes.reverted) delete guest.pending[key];
  for (const key of changes.removed) await removeKey(pve, user, guest, key, params.flag('force') ?? false);
  const drivesLast = [...changes.set].sort(([a], [b]) => Number(isDrive(a)) - Number(isDrive(b)));
  for (const [key, value] of drivesLast) await writeKey(pve, user, guest, key, value);
  const digestAfter = digestOf(guest);
  return {
    effect: digestBefore !== digestAfter,
    vmid,
    incarnation: guest.incarnation,
    digestBefore,
    digestAfter,
    params: {
      ...Object.fromEntries([...changes.set, ...changes.removed.map((key) => [key, null])]),
      mac: macOf(guest),
      mark: markLine(guest),
      name: guest.config['name'],
    },
  };
}
