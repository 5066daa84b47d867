/** A VMID that was freed, or given up to somebody else, and is not to be used again yet. Times are Unix milliseconds. */
export interface RestingVmid {
  readonly vmid: number;
  readonly releasedAtMs: number;
  readonly untilMs: number;
  /** Why, when it is more than a deleted machine. */
  readonly note: string | undefined;
}

export interface VmidRests {
  /** In the order of their numbers, those above `after`. */
  list(cluster: string, after: number, limit: number): Promise<readonly RestingVmid[]>;
  /** `forMs`: how long it rests already; `undefined` = it does not rest. */
  find(cluster: string, vmid: number): Promise<(RestingVmid & { readonly forMs: number }) | undefined>;
  /** Ends the rest of a VMID that rests at least so long, with an audit line. Gives whether it did. */
  end(cluster: string, vmid: number, atLeastMs: number, actor: string): Promise<boolean>;
}
