import { admit, type HeldSlot, type Turns, type WaitingStep } from '../core/admission.js';
import { adjust, startOf } from '../core/slot-limit.js';
import type { EngineParts } from './engine.js';

/** So many of one line are looked at in a round; as many slots come free at once only after an outage. */
const PER_LINE = 16;

/** How long the first clone of a storage that was idle has it for itself (simulated): a linked clone is over by then. */
const ALONE_MS = 5_000;

/** Whether a resource's limit follows the lock wait that its clones measure. */
export const isMeasured = (resource: string): boolean => resource.startsWith('clones@storage:');

/** Admits the due steps of one cluster to its slots, and sets their limits. What it remembers only helps: a new one finds the rest in the store. */
export class SlotDispatcher {
  private turns: Turns = new Map();
  private limits: ReadonlyMap<string, number> = new Map();
  private readonly known = new Set<string>();
  private lookedAtMs = -Infinity;
  /** Resources that a step lacked since the last look at the limits. */
  private short = new Set<string>();
  private readonly openings: Openings;

  constructor(
    private readonly cluster: string,
    private readonly parts: Pick<EngineParts, 'slots' | 'slotLimits' | 'clock' | 'times' | 'log' | 'ports'>,
    private readonly configuredOf: (resource: string) => number,
  ) {
    this.openings = new Openings(ALONE_MS * parts.ports.remoteTimeScale);
  }

  /** Admits what fits, and looks at the limits as often as the sweeper sweeps. Gives how many steps. */
  async admitAll(): Promise<number> {
    const nowMs = this.parts.clock.monotonicMs();
    if (nowMs - this.lookedAtMs >= this.parts.times.sweepMs) {
      await this.look();
      this.lookedAtMs = nowMs;
    }
    let total = 0;
    for (;;) {
      const admitted = await this.round();
      total += admitted;
      if (admitted < PER_LINE) return total;
    }
  }

  private async round(): Promise<number> {
    const { waiting, held } = await this.parts.slots.view(this.cluster, PER_LINE);
    if (waiting.length === 0) return 0;
    await this.meet(new Set(waiting.flatMap((step) => step.slots)));
    const opening = this.openings.among(waiting, held, this.parts.clock.monotonicMs());
    const { admitted, short, turns } = admit({
      waiting,
      held,
      limitOf: (resource) =>
        opening.has(resource) ? 1 : (this.limits.get(resource) ?? this.configuredOf(resource)),
      turns: this.turns,
    });
    for (const resource of short) this.short.add(resource);
    if (admitted.length === 0) return 0;
    const taken = await this.parts.slots.take(admitted);
    if (taken > 0) this.turns = turns;
    return taken;
  }

  /** Limits of what was never asked for before are written down, so that people can set them and clones be measured by them. */
  private async meet(resources: ReadonlySet<string>): Promise<void> {
    const unknown = [...resources].filter((one) => isOf(one, this.cluster) && !this.known.has(one));
    for (const resource of unknown) this.known.add(resource);
    if (unknown.length > 0) await this.look();
  }

  /** Reads what people fixed and what clones measured since the last time, and moves the limits that follow it. */
  private async look(): Promise<void> {
    const { limits, waits, nowMs } = await this.parts.slotLimits.read(this.cluster);
    const now = new Map(limits.map((limit) => [limit.resource, limit]));
    for (const resource of new Set([...now.keys(), ...this.known])) {
      this.known.add(resource);
      const known = now.get(resource);
      const configured = this.configuredOf(resource);
      if (!isMeasured(resource)) {
        if (!known) await this.parts.slotLimits.save(this.cluster, resource, undefined);
        continue;
      }
      const before = known?.measured ?? startOf(configured, nowMs);
      const isShort = this.short.has(resource) && known?.fixed === undefined;
      const { remoteTimeScale: timeScale } = this.parts.ports;
      const measured = adjust(before, waits.get(resource) ?? [], { nowMs, configured, isShort, timeScale });
      if (measured === known?.measured) continue;
      await this.parts.slotLimits.save(this.cluster, resource, measured);
      now.set(resource, { resource, fixed: known?.fixed, measured });
      if (measured.limit !== before.limit)
        this.parts.log.info(
          { resource, from: before.limit, to: measured.limit, why: measured.why },
          'a limit changed',
        );
    }
    this.limits = new Map(
      [...now].flatMap(([resource, { fixed, measured }]) => {
        const limit = fixed ?? measured?.limit;
        return limit === undefined ? [] : [[resource, limit]];
      }),
    );
    this.short = new Set();
  }
}

/**
 * Storages whose first clone after a pause goes alone. A clone takes the lock several times, and of five that begin together each waits for the
 * four others in between: the first machine of a class would be ready a fifth later.
 */
class Openings {
  /** Since when the first one has it; when somebody was last seen to have it. */
  private readonly openedMs = new Map<string, number>();
  private readonly inUseMs = new Map<string, number>();

  constructor(private readonly aloneMs: number) {}

  among(waiting: readonly WaitingStep[], held: readonly HeldSlot[], nowMs: number): ReadonlySet<string> {
    const inUse = new Set(held.map(({ resource }) => resource));
    const opening = new Set<string>();
    for (const resource of new Set(waiting.flatMap(({ slots }) => slots).filter(isMeasured))) {
      const isIdle =
        !inUse.has(resource) && nowMs - (this.inUseMs.get(resource) ?? -Infinity) >= this.aloneMs;
      if (isIdle) this.openedMs.set(resource, nowMs);
      else if (!inUse.has(resource)) this.openedMs.delete(resource);
      if (nowMs - (this.openedMs.get(resource) ?? -Infinity) < this.aloneMs) opening.add(resource);
      this.inUseMs.set(resource, nowMs);
    }
    return opening;
  }
}

function isOf(resource: string, cluster: string): boolean {
  const at = resource.slice(resource.indexOf(':') + 1);
  return at === cluster || at.startsWith(`${cluster}/`);
}
