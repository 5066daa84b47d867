import type { IdMapping } from './raw-lines.js';

/** User and group ids that are the same in the container and on the node, e.g. those of domain users, which own files on a shared home. */
export interface IdentityRange {
  readonly from: number;
  readonly count: number;
}

/** Every unprivileged container has these, and its archive is unpacked under them: they never change. */
export const BASE = { inside: 0, outside: 100_000, count: 65_536 } as const;

/** Below it are the node's own accounts. */
export const LOWEST_IDENTITY = 100_000;
/** The highest id is -1 and stands for "no id". */
const HIGHEST_IDENTITY = 0xff_ff_ff_fe;

const endOf = ({ from, count }: IdentityRange): number => from + count;
const base: IdentityRange = { from: BASE.outside, count: BASE.count };
const overlaps = (a: IdentityRange, b: IdentityRange): boolean => a.from < endOf(b) && b.from < endOf(a);
export const rangeText = (range: IdentityRange): string => `${range.from}-${endOf(range) - 1}`;

/**
 * Why these ids may not be given to a container; `undefined` = they may. `allowed` are the ranges of the cluster's definition.
 * The node's own accounts, the ids that every container's root is made of, and anything outside `allowed` are refused.
 */
export function identitiesProblem(
  ranges: readonly IdentityRange[],
  allowed: readonly IdentityRange[],
): string | undefined {
  for (const [at, range] of ranges.entries()) {
    if (!Number.isInteger(range.from) || !Number.isInteger(range.count) || range.count < 1)
      return `${range.from} and ${range.count} are no range of ids`;
    const text = rangeText(range);
    if (range.from < LOWEST_IDENTITY)
      return `ids ${text}: those below ${LOWEST_IDENTITY} are accounts of the node`;
    if (endOf(range) - 1 > HIGHEST_IDENTITY) return `ids ${text}: the highest id is ${HIGHEST_IDENTITY}`;
    if (overlaps(range, base))
      return `ids ${text}: ${rangeText(base)} are those of every container's own accounts`;
    const other = ranges.slice(0, at).find((earlier) => overlaps(earlier, range));
    if (other) return `ids ${text} and ${rangeText(other)} overlap`;
    if (!covers(allowed, range))
      return `ids ${text}: the cluster allows ${allowed.map(rangeText).join(', ') || 'none'}`;
  }
  return undefined;
}

/** Whether the ranges, side by side, hold all of `wanted`. */
function covers(ranges: readonly IdentityRange[], wanted: IdentityRange): boolean {
  let next = wanted.from;
  for (;;) {
    const here = ranges.filter((range) => range.from <= next && next < endOf(range));
    if (here.length === 0) return false;
    next = Math.max(...here.map(endOf));
    if (next >= endOf(wanted)) return true;
  }
}

/** The mapping lines of a container with these identities; none for a container without, which the cluster maps by itself. */
export function idMappings(ranges: readonly IdentityRange[]): IdMapping[] {
  if (ranges.length === 0) return [];
  return [BASE, ...ranges.map(({ from, count }) => ({ inside: from, outside: from, count }))].flatMap(
    (mapping): IdMapping[] => [
      { of: 'u', ...mapping },
      { of: 'g', ...mapping },
    ],
  );
}

/** What root of a node may map, from its `/etc/subuid` and `/etc/subgid`. */
export interface MappableIds {
  readonly uid: readonly { readonly start: number; readonly count: number }[];
  readonly gid: readonly { readonly start: number; readonly count: number }[];
}

/** The lines that a node's files lack for these identities, by file; both empty = a container with them can start there. */
export function missingSubids(
  ranges: readonly IdentityRange[],
  { uid, gid }: MappableIds,
): { readonly subuid: readonly string[]; readonly subgid: readonly string[] } {
  const lines = (have: MappableIds['uid']): string[] => {
    const held = have.map(({ start, count }) => ({ from: start, count }));
    return [base, ...ranges]
      .filter((range) => !covers(held, range))
      .map(({ from, count }) => `root:${from}:${count}`);
  };
  return { subuid: lines(uid), subgid: lines(gid) };
}
