/**
 * A person's hand on the queue of a cluster. While it is paused no step of its machines begins, forward or back; what runs goes on to its end,
 * and new batches are accepted and wait. A pause is one of the reasons of `ClusterStops`. Each change leaves a line in the audit list.
 */
export interface ClusterPauses {
  /** Pauses, or renews the words of a pause that holds. Gives whether it is new. */
  pause(cluster: string, by: { readonly actor: string; readonly why: string }): Promise<boolean>;
  /** Gives whether it was paused. Work goes on by itself within seconds. */
  resume(cluster: string, actor: string): Promise<boolean>;
}
