interface Mark {
  readonly deployment: string;
  readonly machine: string;
  readonly vmid: number;
}

/** Read here and not with the product's own reader: both must not make the same mistake. */
export function markOf(mark: string | undefined): Mark | undefined {
  const match = /^\[hatchery v1 deployment=(\S+) machine=(\S+) .*\bvmid=(\d+)\b/.exec(mark ?? '');
  return match === null
    ? undefined
    : { deployment: match[1] ?? '', machine: match[2] ?? '', vmid: Number(match[3]) };
}
