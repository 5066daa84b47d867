import type { WorldHaMove } from '../world.js';
import { drawMs } from './durations.js';
import { affinityOf, type Affinity } from './ha-affinity.js';
import { KINDS } from './guest-kind.js';
import type { LockUser } from './locks.js';
import type { Handled, Pve, PveCall } from './pve.js';
import { lockUser } from './guest-task.js';
import type { Task, TaskResult } from './task-engine.js';
import { failure, PveError } from './wire.js';

/** Starting or stopping a managed guest only asks the HA manager: the task ends at once. */
export function askHa(call: PveCall, wanted: 'start' | 'stop'): Handled {
  const { pve, vmid } = call;
  const { word } = KINDS[pve.world.guests.get(vmid)?.kind ?? 'qemu'];
  return ask(call, `ha${wanted}`, async (task) => {
    task.log(`Requesting HA ${wanted} for ${word} ${vmid}`);
    pve.ha.requestState(vmid, wanted === 'start' ? 'started' : 'stopped');
    return { effect: false };
  });
}

/** Moving it, too. The task runs the command of the HA manager, and says of its errors what it printed. */
export function askHaToMove(call: PveCall, target: string): Handled {
  const { pve, vmid } = call;
  const sid = `vm:${vmid}`;
  return ask(call, 'hamigrate', async (task) => {
    task.log(`Requesting HA migration for VM ${vmid} to node ${target}`);
    try {
      const { blockers, companions } = await queueMove(pve, lockUser(task), {
        sid,
        how: 'migrate',
        node: target,
      });
      if (blockers.length > 0) throw failure(wordsOf(sid, target, blockers));
      for (const other of companions)
        task.log(
          `also migrate resource '${other}' in positive affinity with resource '${sid}' to target node '${target}'`,
        );
    } catch (error) {
      if (!(error instanceof PveError)) throw error;
      task.log(error.message);
      throw failure(`command 'ha-manager migrate ${sid} ${target}' failed: exit code 255`);
    }
    return { effect: false };
  });
}

function wordsOf(sid: string, node: string, blockers: ReturnType<Affinity['blockersOn']>): string {
  const reasons = blockers.map(
    ({ sid: other }) =>
      `- resource '${other}' on target node '${node}' in negative affinity with resource '${sid}'`,
  );
  return [`cannot migrate resource '${sid}' to node '${node}':`, '', ...reasons].join('\n');
}

function ask(
  { pve, node, vmid, account, op, faults }: PveCall,
  type: string,
  work: (task: Task) => Promise<TaskResult>,
): Handled {
  const setup = { node, type, id: String(vmid), actor: account.id, op, vmid, faults };
  const { upid } = pve.tasks.start(setup, work);
  return { data: upid, journal: { upid } };
}

/**
 * Leaves the manager a line about it, unless a rule forbids the move: then `blockers` names the resources that are in the way.
 * Refused while the resource is not managed or in error.
 */
export async function queueMove(
  pve: Pve,
  user: LockUser,
  move: WorldHaMove,
): Promise<{ companions: readonly string[]; blockers: ReturnType<Affinity['blockersOn']> }> {
  const { sid, node } = move;
  const state = pve.world.ha.resources.get(sid)?.state ?? 'ignored';
  if (state === 'ignored') throw failure(`resource '${sid}' is not HA managed`);
  if (pve.ha.isInError(sid))
    throw failure(`service '${sid}' in error state, must be disabled and fixed first`);
  const { companions, blockersOn } = affinityOf(pve.world, sid);
  const blockers = blockersOn(node);
  if (blockers.length === 0)
    await pve.locks.with(user, 'domain-ha', async (signal) => {
      await pve.context.clock.sleep(drawMs(pve.context, 'cluster-write', 'ha'), signal);
      pve.ha.requestMove(move);
    });
  return { companions, blockers };
}
