import type { WorldGuest } from '../world.js';
import { need, needAny } from './auth.js';
import { drawMs } from './durations.js';
import { FORMATS } from './formats.js';
import { digestOf, macOf, markLine, shownConfig, shownKeys, shownLines } from './guest-config.js';
import { FLOCK_MS, lockFile } from './guest-task.js';
import type { LockUser } from './locks.js';
import { removeKey, writeKey } from './lxc-config-write.js';
import { isMount, LXC_CONFIG_PARAMS, LXC_CONFIG_PRIVILEGES, specOfContainerKey } from './lxc-keys.js';
import { mountType, readMount } from './lxc-mounts.js';
import { needContainerKeys } from './lxc-rights.js';
import { OPTIONAL_FLAG, OPTIONAL_TEXT } from './params.js';
import { checkUnlocked, guestOn, type Handled, type Pve, type PveCall, type Route } from './pve.js';
import { DIGEST, pendingOf } from './qemu-config.js';
import { snapshotOf } from './snapshot.js';
import type { TaskResult } from './task-engine.js';
import { storageOf } from './volumes.js';
import { failure, parameterErrors } from './wire.js';

const CONFIG_IDS = { ...OPTIONAL_TEXT, list: true, format: FORMATS['pve-configid'] } as const;
/** Parameters that are no keys. */
const NO_KEYS = new Set(['delete', 'revert', 'digest']);
const permitRead: Route['permit'] = (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Audit');

export const lxcConfigRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/nodes/{node}/lxc/{vmid}/config',
    op: 'lxc.config.get',
    kind: 'read',
    params: {
      current: OPTIONAL_FLAG,
      snapshot: { ...OPTIONAL_TEXT, maxLength: 40, format: FORMATS['pve-configid'] },
    },
    permit: permitRead,
    handle: readConfig,
  },
  {
    method: 'GET',
    path: '/nodes/{node}/lxc/{vmid}/pending',
    op: 'lxc.pending',
    kind: 'read',
    params: {},
    permit: permitRead,
    handle: ({ pve, node, vmid }) => ({ data: pendingOf(guestOn(pve, node, vmid, 'lxc')) }),
  },
  {
    method: 'PUT',
    path: '/nodes/{node}/lxc/{vmid}/config',
    op: 'lxc.config.put',
    kind: 'config-write',
    params: { ...LXC_CONFIG_PARAMS, delete: CONFIG_IDS, digest: DIGEST, revert: CONFIG_IDS },
    permit: (account, path) => needAny(account, `/vms/${path['vmid']}`, ...LXC_CONFIG_PRIVILEGES),
    handle: writeNow,
  },
];

function readConfig({ pve, node, vmid, params }: PveCall): Handled {
  const guest = guestOn(pve, node, vmid, 'lxc');
  const name = params.text('snapshot');
  const isCurrent = params.flag('current') ?? false;
  if (name === undefined) return { data: shownConfig(guest, isCurrent) };
  const both = "cannot use 'snapshot' parameter with 'current'";
  if (isCurrent) throw parameterErrors({ snapshot: both, current: both });
  const { config, rawLines } = snapshotOf(guest, name);
  return { data: { ...shownKeys(config, 'lxc'), ...shownLines(rawLines), digest: digestOf(guest) } };
}

interface Changes {
  readonly set: readonly [key: string, value: string][];
  readonly removed: readonly string[];
  readonly reverted: readonly string[];
}

async function writeNow(call: PveCall): Promise<Handled> {
  const { pve, node, vmid, account, params } = call;
  const changes: Changes = {
    set: params.entries().filter(([key]) => !NO_KEYS.has(key)),
    removed: params.list('delete'),
    reverted: params.list('revert'),
  };
  checkChanges(call, changes, guestOn(pve, node, vmid, 'lxc'));
  const user: LockUser = { actor: account.id, node, vmid };
  const journal = await pve.files.with(user, lockFile(vmid, 'lxc'), 'exclusive', FLOCK_MS, () =>
    writeLocked(call, user, changes),
  );
  return { data: null, journal };
}

/** What is refused before the lock: unknown keys, then rights per key. */
function checkChanges(call: PveCall, { set, removed, reverted }: Changes, guest: WorldGuest): void {
  if (set.length + removed.length + reverted.length === 0) throw failure('no options specified');
  for (const [parameter, keys] of Object.entries({ delete: removed, revert: reverted }))
    for (const key of keys)
      if (!specOfContainerKey(key)) throw parameterErrors({ [parameter]: `unknown option '${key}'` });
  const before = { config: guest.config, isUnprivileged: guest.config['unprivileged'] === '1' };
  needContainerKeys(call, { vmid: guest.vmid }, before, [
    ...removed.map((key): [string, null] => [key, null]),
    ...set,
  ]);
}

/** Under the guest's flock: lock and digest are looked at, then one write. */
async function writeLocked(call: PveCall, user: LockUser, changes: Changes): Promise<TaskResult> {
  const { pve, node, vmid, params } = call;
  const guest = guestOn(pve, node, vmid, 'lxc');
  checkUnlocked(guest);
  const digest = params.text('digest');
  const digestBefore = digestOf(guest);
  if (digest !== undefined && digest !== digestBefore)
    throw failure('detected modified configuration - file changed by other user? Try again.');
  for (const key of changes.removed) checkRemoval(guest, key);
  for (const [key, value] of changes.set) checkChange(pve, guest, key, value);
  pve.conditions.needQuorum();
  await pve.context.clock.sleep(drawMs(pve.context, 'cluster-write', vmid), user.signal);
  for (const key of changes.reverted) delete guest.pending[key];
  for (const key of changes.removed) await removeKey(pve, user, guest, key);
  for (const [key, value] of changes.set) await writeKey(pve, user, guest, key, value);
  // The file is written anew, whoever wrote it before.
  guest.handWritten = undefined;
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
      name: guest.config['hostname'],
    },
  };
}

function checkRemoval({ vmid, config }: WorldGuest, key: string): void {
  if (['memory', 'rootfs', 'ostype'].includes(key))
    throw failure(`unable to delete required option '${key}'`);
  if (key === 'unprivileged') throw failure(`unable to delete read-only option: '${key}'`);
  if (/^(?:mp|unused)[0-9]+$/.test(key) && config[key] !== undefined && config['protection'] === '1')
    throw failure(`can't remove CT ${vmid} drive '${key}' - protection mode enabled`);
}

function checkChange(pve: Pve, { vmid, config }: WorldGuest, key: string, value: string): void {
  if (key === 'unprivileged') throw failure(`unable to modify read-only option: '${key}'`);
  if (!isMount(key)) return;
  if (config['protection'] === '1')
    throw failure(`can't update CT ${vmid} drive '${key}' - protection mode enabled`);
  const mount = readMount(value);
  if (mountType(mount) !== 'volume') return;
  const id = mount.storage ?? '';
  if (!storageOf(pve, id).content.includes('rootdir'))
    throw failure(`storage '${id}' does not support content type 'rootdir'`);
}
