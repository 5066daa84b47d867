import { HatcheryError } from './errors.js';
import type { VmidRange } from './vmids.js';

/** A guest in our range that another deployment made: known by its mark, or by a pool of the form `hatchery-<deployment>` that is not ours. */
export interface Intruder {
  readonly vmid: number;
  readonly by: { readonly deployment: string } | { readonly pool: string };
}

const SHOWN = 5;

/** True for the pool of some deployment that is not the one with `ownPool`. */
export function isPoolOfOthers(pool: string | undefined, ownPool: string): boolean {
  return pool !== undefined && pool !== ownPool && /^hatchery-[a-z0-9]/.test(pool);
}

/** Why nothing may be dispatched to a cluster in whose range these guests live. */
export function foreignDeployment(
  cluster: string,
  range: VmidRange,
  intruders: readonly Intruder[],
): HatcheryError {
  const shown = intruders
    .slice(0, SHOWN)
    .map(({ vmid, by }) =>
      'pool' in by ? `${vmid} (pool ${by.pool})` : `${vmid} (mark of deployment ${by.deployment})`,
    );
  const more = intruders.length > SHOWN ? ` and ${intruders.length - SHOWN} more` : '';
  return new HatcheryError(
    'foreign-guest',
    `Unable to work on cluster ${cluster}: another Hatchery deployment has guests in our VMID range ${range.from}-${range.to}: ${shown.join(', ')}${more}`,
    {
      retry: 'after-fix',
      hint: `Nothing of theirs was touched, and nothing is sent to this cluster until they are gone. Find out who runs the other deployment, and give each a range of its own (vmids in clusters/${cluster}.yaml); work goes on by itself.`,
      facts: { cluster, vmids: intruders.slice(0, 100).map(({ vmid }) => vmid) },
    },
  );
}
