/** VMIDs that one deployment may use on one cluster; both ends included. */
export interface VmidRange {
  readonly from: number;
  readonly to: number;
}

export interface VmidCounts {
  readonly total: number;
  readonly free: number;
  /** Held by a machine of ours or seen on the cluster. */
  readonly used: number;
  /** Freed, but not to be used again before its rest ends. */
  readonly resting: number;
}

/** The lowest `count` ids of the range that are not in `used` (resting ids included there); fewer when the range has no more. */
export function freeVmids(range: VmidRange, used: ReadonlySet<number>, count: number): number[] {
  const free: number[] = [];
  for (let vmid = range.from; vmid <= range.to && free.length < count; vmid += 1) {
    if (!used.has(vmid)) free.push(vmid);
  }
  return free;
}

/** How the range stands. `used` may hold the resting ids too: they count as resting. */
export function countVmids(
  range: VmidRange,
  used: ReadonlySet<number>,
  resting: ReadonlySet<number> = new Set(),
): VmidCounts {
  const isInside = (vmid: number): boolean => vmid >= range.from && vmid <= range.to;
  const usedInside = [...used].filter((vmid) => isInside(vmid) && !resting.has(vmid)).length;
  const restingInside = [...resting].filter(isInside).length;
  const total = range.to - range.from + 1;
  return { total, free: total - usedInside - restingInside, used: usedInside, resting: restingInside };
}
