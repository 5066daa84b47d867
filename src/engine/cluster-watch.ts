import { errorRecord, HatcheryError } from '../core/errors.js';
import { foreignDeployment, isPoolOfOthers, type Intruder } from '../core/foreign-deployment.js';
import type { Mark } from '../core/mark.js';
import { plainCall } from '../ports/call.js';
import type { Clock } from '../ports/clock.js';
import type { ClusterStops } from '../ports/cluster-stops.js';
import type { GuestInfo, Hypervisor, Inventory } from '../ports/hypervisor.js';
import type { RunStore } from '../ports/run-store.js';
import type { EngineLog } from './engine.js';

/** Configs read per look; the rest follows with the next one. */
const READS_PER_LOOK = 20;

interface Sighting {
  /** How the guest looked when its config was read: another one is read again. */
  readonly as: string;
  readonly mark: Mark | undefined;
}

/**
 * An inventory may be some seconds old, and the cluster's own answer too: it proves that an intruder is gone only when the stop is older.
 * Scales with the remote side, but not below the age of our own inventories.
 */
const LIFT_AFTER_MS = 10_000;
const LEAST_LIFT_MS = 2_500;
/** How old an answer about our own rights may be. */
const STANDING_AGE_MS = 60_000;

/**
 * Tells whether this deployment may work on one cluster, and stops dispatch to it while it may not: because its token could write to guests of
 * others, or because guests of other deployments live in its VMID range: two deployments that take numbers
 * from one range are about to take each other's guests for their own. A guest is read when it is first seen there, when it looks different, and
 * as long as it is an intruder; guests that our own machines hold are never read.
 */
export class ClusterWatch {
  private readonly sightings = new Map<number, Sighting>();
  private standingAtMs: number | undefined;

  constructor(
    private readonly parts: {
      readonly store: Pick<RunStore, 'countedVmids'>;
      readonly stops: ClusterStops;
      readonly deployment: string;
      readonly log: EngineLog;
      readonly clock: Clock;
    },
    private readonly hypervisor: Hypervisor,
    private readonly at: {
      readonly pool: string;
      readonly from: number;
      readonly to: number;
      readonly liftAfterMs: number;
    },
  ) {}

  static liftAfterMs(remoteTimeScale: number): number {
    return Math.max(LEAST_LIFT_MS, LIFT_AFTER_MS * remoteTimeScale);
  }

  /** Looks at our rights and at the guests of an inventory, and stops or resumes dispatch accordingly. */
  async look(inventory: Inventory, signal: AbortSignal): Promise<void> {
    await this.lookAtRights(signal);
    const { cluster } = this.hypervisor;
    const { intruders, isComplete } = await this.intruders(inventory, signal);
    if (intruders.length > 0) await stopFor(this.parts, cluster, this.at, intruders);
    else if (isComplete && (await this.parts.stops.lift(cluster, 'foreign-deployment', this.at.liftAfterMs)))
      this.parts.log.info({ cluster }, 'the other deployment is gone from our VMID range: dispatch goes on');
  }

  private async lookAtRights(signal: AbortSignal): Promise<void> {
    const { stops, clock, log } = this.parts;
    const now = clock.monotonicMs();
    if (this.standingAtMs !== undefined && now - this.standingAtMs < STANDING_AGE_MS) return;
    const { cluster } = this.hypervisor;
    const standing = await this.hypervisor.standing(plainCall(signal));
    this.standingAtMs = now;
    if (standing.ok) {
      if (await stops.lift(cluster, 'token-rights', 0))
        log.info({ cluster }, 'our rights on the cluster are in order again: dispatch goes on');
      return;
    }
    // Who mends the rights should not have to wait for the answer to grow old.
    this.standingAtMs = undefined;
    const { code, sentence: message, hint } = standing;
    if (await stops.stop(cluster, 'token-rights', { code, message, hint }))
      log.error({ cluster, code }, message);
  }

  private async intruders(
    inventory: Inventory,
    signal: AbortSignal,
  ): Promise<{ intruders: Intruder[]; isComplete: boolean }> {
    const inRange = inventory.guests.filter(({ vmid }) => vmid >= this.at.from && vmid <= this.at.to);
    // Read after the inventory: whatever of ours is to be seen there was reserved before.
    const counted = await this.parts.store.countedVmids(this.hypervisor.cluster);
    const others = inRange.filter(
      ({ vmid, pool }) => !counted.has(vmid) || isPoolOfOthers(pool, this.at.pool),
    );
    const isComplete = await this.readMarks(others, signal);
    this.forgetAllBut(others);
    const intruders = others.flatMap((guest): Intruder[] => {
      const mark = this.sightings.get(guest.vmid)?.mark;
      if (mark !== undefined && mark.deployment !== this.parts.deployment)
        return [{ vmid: guest.vmid, by: { deployment: mark.deployment } }];
      if (mark !== undefined || !isPoolOfOthers(guest.pool, this.at.pool)) return [];
      return [{ vmid: guest.vmid, by: { pool: guest.pool! } }];
    });
    return { intruders, isComplete };
  }

  /** Gives whether every guest was read: one that cannot be read (its node is down) is asked again with the next look. */
  private async readMarks(guests: readonly GuestInfo[], signal: AbortSignal): Promise<boolean> {
    const isNew = (guest: GuestInfo): boolean => this.sightings.get(guest.vmid)?.as !== appearance(guest);
    const isIntruder = ({ vmid }: GuestInfo): boolean => {
      const mark = this.sightings.get(vmid)?.mark;
      return mark !== undefined && mark.deployment !== this.parts.deployment;
    };
    const unread = [...guests.filter(isNew), ...guests.filter((guest) => !isNew(guest) && isIntruder(guest))];
    let isComplete = unread.length <= READS_PER_LOOK;
    for (const guest of unread.slice(0, READS_PER_LOOK))
      try {
        const mark = await this.hypervisor.readMark(guest.vmid, plainCall(signal));
        // A copied description names another guest: it proves nothing about this one.
        const isValid = mark?.vmid === guest.vmid;
        this.sightings.set(guest.vmid, { as: appearance(guest), mark: isValid ? mark : undefined });
      } catch (error) {
        if (signal.aborted || !(error instanceof HatcheryError)) throw error;
        isComplete = false;
      }
    return isComplete;
  }

  private forgetAllBut(guests: readonly GuestInfo[]): void {
    const seen = new Set(guests.map(({ vmid }) => vmid));
    for (const vmid of this.sightings.keys()) if (!seen.has(vmid)) this.sightings.delete(vmid);
  }
}

const appearance = ({ node, kind, pool, name, lock }: GuestInfo): string =>
  JSON.stringify([node, kind, pool, name, lock]);

/** Stops dispatch to a cluster in whose range these guests of another deployment were found. */
export async function stopFor(
  parts: { readonly stops: ClusterStops; readonly log: EngineLog },
  cluster: string,
  range: { readonly from: number; readonly to: number },
  intruders: readonly Intruder[],
): Promise<void> {
  const error = foreignDeployment(cluster, range, intruders);
  if (await parts.stops.stop(cluster, 'foreign-deployment', errorRecord(error)))
    parts.log.error({ cluster, code: error.code }, error.message);
}
