import type { WorldGuest } from '../world.js';
import { needAny } from './auth.js';
import { drawMs } from './durations.js';
import { digestOf, disksOf, macOf, markLine } from './guest-config.js';
import { nameOf } from './guest-rows.js';
import { KINDS, type GuestKind } from './guest-kind.js';
import type { LockUser } from './locks.js';
import { bootContainer, haltContainer } from './lxc-power.js';
import { OPTIONAL_FLAG } from './params.js';
import { bootGuest, haltGuest } from './power.js';
import { checkUnlocked, guestOn, type Handled, type PveCall, type Route } from './pve.js';
import { FLOCK_MS, forkTask, lockFile } from './guest-task.js';
import { migrationLock, shortly, snapshotOf } from './snapshot.js';
import type { Task, TaskResult } from './task-engine.js';
import { storageOf, volumeOf } from './volumes.js';
import { failure } from './wire.js';

export const rollbackRoutes: readonly Route[] = (['qemu', 'lxc'] as const).map((kind) => ({
  method: 'POST',
  path: `/nodes/{node}/${kind}/{vmid}/snapshot/{snapname}/rollback`,
  op: `${kind}.rollback`,
  kind: 'fork',
  params: { start: OPTIONAL_FLAG },
  permit: (account, path) => needAny(account, `/vms/${path['vmid']}`, 'VM.Snapshot', 'VM.Snapshot.Rollback'),
  handle: (call) => startRollback(call, kind),
}));

function startRollback(call: PveCall, kind: GuestKind): Handled {
  const { pve, node, vmid, path, params } = call;
  const name = path['snapname'] ?? '';
  guestOn(pve, node, vmid, kind);
  return forkTask(call, `${KINDS[kind].task}rollback`, (task, user) =>
    pve.files.with(user, migrationLock(vmid), 'exclusive', FLOCK_MS, async () => {
      const guest = await shortly({ ...call, kind }, user, (found) => {
        if (found.config['template'] === '1') throw failure("you can't rollback if vm is a template");
        const snapshot = snapshotOf(found, name);
        checkUnlocked(found);
        checkNewest(call, found, name, snapshot.config);
      });
      const result = await rollBack(call, task, user, guest, name);
      const wantsStart = params.flag('start') ?? snapshotOf(guest, name).state !== undefined;
      if (wantsStart)
        await pve.files.with(user, lockFile(vmid, kind), 'exclusive', FLOCK_MS, () =>
          kind === 'qemu' ? bootGuest(call, task, user) : bootContainer(call, task, user),
        );
      return result;
    }),
  );
}

/** ZFS goes back only to the newest one. */
function checkNewest(
  { pve }: PveCall,
  guest: WorldGuest,
  name: string,
  config: Readonly<Record<string, string>>,
): void {
  const newest = [...guest.snapshots.keys()].at(-1);
  const disk = disksOf(config).find(({ storage }) => storageOf(pve, storage).type === 'zfspool');
  if (disk && newest !== name)
    throw failure(
      `can't rollback, '${name}' is not most recent snapshot on '${disk.volid.slice(disk.volid.indexOf(':') + 1)}'`,
    );
}

/** A running guest is stopped first; what waited for its next start is dropped. */
async function rollBack(
  call: PveCall,
  task: Task,
  user: LockUser,
  guest: WorldGuest,
  name: string,
): Promise<TaskResult> {
  const { pve, vmid } = call;
  const snapshot = snapshotOf(guest, name);
  const digestBefore = digestOf(guest);
  if (guest.status === 'running')
    await pve.files.with(user, lockFile(vmid, guest.kind), 'exclusive', FLOCK_MS, () =>
      guest.kind === 'qemu' ? haltGuest(call, task, user, 'stop') : haltContainer(call, user, 'stop'),
    );
  guest.config['lock'] = 'rollback';
  try {
    await task.pass('task');
    await pve.context.clock.sleep(drawMs(pve.context, 'rollback', vmid), user.signal);
    for (const [volid, sizeGiB] of Object.entries(snapshot.sizesGiB)) {
      const volume = volumeOf(pve, volid, guest.node);
      if (volume) volume.sizeGiB = sizeGiB;
    }
    const { description } = guest.config;
    guest.config = {
      ...snapshot.config,
      ...(description === undefined ? {} : { description }),
      parent: name,
      lock: 'rollback',
    };
    guest.rawLines = snapshot.rawLines;
    guest.pending = {};
    guest.files = new Map(snapshot.files);
  } finally {
    delete guest.config['lock'];
  }
  return {
    effect: true,
    incarnation: guest.incarnation,
    digestBefore,
    digestAfter: digestOf(guest),
    params: { snapshot: name, mac: macOf(guest), mark: markLine(guest), name: nameOf(guest) },
  };
}
