import type { ErrorRecord } from '../core/errors.js';

/**
 * `foreign-deployment`: another Hatchery has guests in our VMID range; `token-rights`: our token could write to guests of others; `paused`: see `ClusterPauses`;
 * `outage`: it has no quorum, or nobody reaches it.
 */
export type StopReason = 'foreign-deployment' | 'token-rights' | 'paused' | 'outage';

/**
 * Clusters to which nothing is dispatched, and why: the processes stay up, what runs goes on to its end, nothing new begins.
 * Kept in the store, so that it holds for every worker from the same moment on.
 */
export interface ClusterStops {
  /** The reasons that hold for a cluster now, oldest first. */
  of(cluster: string): Promise<readonly ErrorRecord[]>;
  holds(cluster: string, reason: StopReason): Promise<boolean>;
  /** Notes a reason, or renews its words. Gives whether it is new. */
  stop(cluster: string, reason: StopReason, error: ErrorRecord): Promise<boolean>;
  /** Takes a reason away that holds for so long already; gives whether there was one. */
  lift(cluster: string, reason: StopReason, atLeastMs: number): Promise<boolean>;
}
