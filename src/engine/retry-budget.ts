/** Retries that a cluster may get from one process: one in each gap, after a first handful that may come at once. Milliseconds. */
const GAP_MS = 200;
const AT_ONCE = 20;

/**
 * Places in time for the retries of each cluster. Each step has gaps of its own; the budget keeps those of hundreds of steps that failed for
 * one reason from adding up to a storm. `scale`: factor where the remote side itself is faster than a real one.
 */
export class RetryBudget {
  private readonly lastPlaceMs = new Map<string, number>();

  constructor(private readonly scale: number) {}

  /** Takes the next place; gives how far away it is, in milliseconds. */
  take(cluster: string, nowMs: number): number {
    const gapMs = GAP_MS * this.scale;
    const last = this.lastPlaceMs.get(cluster) ?? -Infinity;
    const place = Math.max(last, nowMs - AT_ONCE * gapMs) + gapMs;
    this.lastPlaceMs.set(cluster, place);
    return Math.max(0, place - nowMs);
  }
}
