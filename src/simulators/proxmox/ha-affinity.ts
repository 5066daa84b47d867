import type { World } from '../world.js';
import { splitList } from './check-value.js';

/** What rules say about where one resource may be, seen from the others. */
export interface Affinity {
  /** Those that go where it goes. */
  readonly companions: readonly string[];
  /** Those because of which it must not go to this node. */
  readonly blockersOn: (node: string) => { readonly sid: string; readonly cause: 'resource-affinity' }[];
}

/** Companions keep their own distance, too: what one of them must not meet, none may. */
export function affinityOf({ ha, guests }: World, sid: string): Affinity {
  const sets = (affinity: string): string[][] =>
    [...ha.rules.values()]
      .filter((rule) => rule['affinity'] === affinity && rule['disable'] !== '1')
      .map((rule) => splitList(rule['resources'] ?? ''));
  const together = new Set([sid]);
  for (const member of together)
    for (const set of sets('positive'))
      if (set.includes(member)) for (const other of set) together.add(other);
  const apart = sets('negative')
    .filter((set) => set.some((one) => together.has(one)))
    .flat();
  const isAttended = (other: string): boolean =>
    other !== sid && (ha.resources.get(other)?.state ?? 'ignored') !== 'ignored';
  const rivals = [...new Set(apart)].filter((other) => isAttended(other) && !together.has(other)).sort();
  return {
    companions: [...together].filter(isAttended).sort(),
    blockersOn: (node) =>
      rivals
        .filter((other) => guests.get(Number(other.slice(3)))?.node === node)
        .map((other) => ({ sid: other, cause: 'resource-affinity' })),
  };
}
