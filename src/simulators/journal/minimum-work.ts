import type { Work } from './expectations.js';
import type { Counts } from './verdict.js';

/** A deed of somebody else lasts as long as its task, and the cluster refuses some. */
const SHARE = { items: 0.95, faults: 0.9, kills: 0.8, deeds: 0.1 } as const;

/** Why a run proves nothing although nothing in it went wrong: too little of what it was meant to go through came. */
export function missingWork(
  work: Work,
  counts: Counts,
  { firedFaults, deeds }: { firedFaults: ReadonlySet<string>; deeds: ReadonlyMap<string, number> },
): string[] {
  const { items, faults = [], kills = 0, killsLanded = 0 } = work;
  const fired = faults.filter((id) => firedFaults.has(id)).length;
  const missing: string[] = [];
  if (counts.guestsCreated < items * SHARE.items)
    missing.push(`only ${counts.guestsCreated} guests were made for ${items} items`);
  if (fired < faults.length * SHARE.faults) missing.push(`only ${fired} of ${faults.length} faults fired`);
  if (killsLanded < kills * SHARE.kills)
    missing.push(`only ${killsLanded} of ${kills} kills landed inside a step`);
  for (const [account, meant] of Object.entries(work.deeds ?? {})) {
    const done = deeds.get(account) ?? 0;
    if (done < Math.max(1, meant * SHARE.deeds))
      missing.push(`${account} did only ${done} of ${Math.round(meant)} things`);
  }
  return missing;
}
