import type { EffectIntent } from '../plan/step.js';
import { plainCall } from '../ports/call.js';
import type { GuestInfo, GuestKind, Hypervisor } from '../ports/hypervisor.js';
import { changeRun, type EngineParts } from './engine.js';

/** Configs read per round. */
const READS_PER_ROUND = 20;

/**
 * Looks for guests of ours that nobody counts on any more: in our pool and range, with our own mark, of a machine whose run is over or not known.
 * A clone whose request arrived after its undo had found nothing is such a guest: its undo is opened again. One whose machine is in no row (a database
 * that lost its last commits) is noted and left alone, as is what carries no mark of ours.
 */
export class StrayFinder {
  /** VMID that was read last: the next round goes on behind it, so that guests which stay do not hide those behind them. */
  private last = 0;

  constructor(
    private readonly parts: EngineParts,
    private readonly hypervisor: Hypervisor,
    private readonly at: {
      readonly pool: string;
      readonly from: number;
      readonly to: number;
      readonly effectOf: (kind: GuestKind, cluster: string, vmid: number, pool: string) => EffectIntent;
    },
  ) {}

  /** One round over one cluster. Gives how many undos it opened. */
  async reopen(signal: AbortSignal): Promise<number> {
    let reopened = 0;
    for (const guest of await this.next(signal)) {
      this.last = guest.vmid;
      if (await this.reopenIfOurs(guest, signal)) reopened += 1;
    }
    return reopened;
  }

  private async next(signal: AbortSignal): Promise<GuestInfo[]> {
    const { pool, from, to } = this.at;
    const { guests } = await this.hypervisor.inventory({ signal });
    const counted = await this.parts.store.countedVmids(this.hypervisor.cluster);
    const uncounted = guests
      .filter((guest) => guest.pool === pool && !guest.template)
      .filter(({ vmid }) => vmid >= from && vmid <= to && !counted.has(vmid))
      .toSorted((a, b) => a.vmid - b.vmid);
    return [
      ...uncounted.filter(({ vmid }) => vmid > this.last),
      ...uncounted.filter(({ vmid }) => vmid <= this.last),
    ].slice(0, READS_PER_ROUND);
  }

  private async reopenIfOurs({ vmid, kind }: GuestInfo, signal: AbortSignal): Promise<boolean> {
    const { parts, hypervisor, at } = this;
    const mark = await hypervisor.readMark(vmid, plainCall(signal));
    if (mark?.vmid !== vmid || mark.deployment !== parts.deployment) return false;
    const isNews = await parts.store.noteFound(hypervisor.cluster, mark);
    if (isNews !== undefined) {
      if (isNews)
        parts.log.error(
          { cluster: hypervisor.cluster, vmid, machine: mark.machine, run: mark.run },
          'a guest with our mark is of no machine in this database: it is left alone, and its VMID is given to nobody',
        );
      return false;
    }
    const runId = await parts.store.recordStray(
      mark.machine,
      at.effectOf(kind, hypervisor.cluster, vmid, at.pool),
    );
    if (runId === undefined) return false;
    parts.log.warn(
      { run: runId, machine: mark.machine, vmid },
      'a guest of a run that is over was found: its undo is opened again',
    );
    await changeRun(parts, { runId }, (model) => model.reopen());
    return true;
  }
}
