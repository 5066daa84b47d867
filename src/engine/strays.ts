import type { EffectIntent } from '../plan/step.js';
import { plainCall } from '../ports/call.js';
import type { Hypervisor } from '../ports/hypervisor.js';
import { changeRun, type EngineParts } from './engine.js';

/** Configs read per round and cluster. */
const READS_PER_ROUND = 20;

/**
 * Looks for guests of ours that nobody counts on any more: in our pool and range, with our own mark, of a machine whose run is over.
 * A clone whose request arrived after its undo had found nothing is such a guest. Its undo is opened again; what carries no mark of ours is left alone.
 */
export async function reopenStrays(
  parts: EngineParts,
  hypervisor: Hypervisor,
  at: {
    readonly pool: string;
    readonly from: number;
    readonly to: number;
    readonly effectOf: (cluster: string, vmid: number, pool: string) => EffectIntent;
  },
  signal: AbortSignal,
): Promise<number> {
  const { guests } = await hypervisor.inventory({ signal });
  const ours = guests.filter(
    (guest) =>
      guest.kind === 'qemu' &&
      guest.pool === at.pool &&
      !guest.template &&
      guest.vmid >= at.from &&
      guest.vmid <= at.to,
  );
  const counted = await parts.store.countedVmids(hypervisor.cluster);
  let reopened = 0;
  for (const { vmid } of ours.filter((guest) => !counted.has(guest.vmid)).slice(0, READS_PER_ROUND)) {
    const mark = await hypervisor.readMark(vmid, plainCall(signal));
    if (mark?.vmid !== vmid || mark.deployment !== parts.deployment) continue;
    const runId = await parts.store.recordStray(mark.machine, at.effectOf(hypervisor.cluster, vmid, at.pool));
    if (runId === undefined) continue;
    parts.log.warn(
      { run: runId, machine: mark.machine, vmid },
      'a guest of a run that is over was found: its undo is opened again',
    );
    await changeRun(parts, { runId }, (model) => model.reopen());
    reopened += 1;
  }
  return reopened;
}
