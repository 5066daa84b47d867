import { HatcheryError } from '../core/errors.js';
import type { Call } from '../ports/call.js';
import type { Hypervisor } from '../ports/hypervisor.js';
import type { VmidRests } from '../ports/vmid-rests.js';

/** A request that was sent for the guest before may arrive this late, and nobody can end this wait. */
export const LEAST_REST_MS = 600_000;

/**
 * Lets a resting VMID be used again before its time, when the cluster's own id table calls it free.
 * A disk that is left under it is not for our rights to see; the clone that meets it burns the id again.
 * Errors: `not-applicable` (it does not rest, or rests too short), `foreign-guest`, `cluster-unreachable`.
 */
export async function releaseVmid(
  rests: VmidRests,
  hypervisor: Hypervisor,
  vmid: number,
  actor: string,
  call: Call,
): Promise<void> {
  const { cluster } = hypervisor;
  const refuse = (why: string, hint: string): HatcheryError =>
    new HatcheryError('not-applicable', `Unable to release VMID ${vmid} of ${cluster}: ${why}`, { hint });
  const resting = await rests.find(cluster, vmid);
  if (!resting) throw refuse('it does not rest', `hatchery cluster vmids ${cluster} lists those that do.`);
  if (resting.forMs < LEAST_REST_MS)
    throw refuse(
      `it was given back ${Math.floor(resting.forMs / 60_000)} minutes ago`,
      'Every VMID rests for ten minutes at least: a late request for the guest before it must find nothing. Try again then.',
    );
  const lookup = await hypervisor.lookupVmid(vmid, call, { isLive: true });
  if (lookup.answer === 'unknown')
    throw new HatcheryError(
      'cluster-unreachable',
      `Unable to release VMID ${vmid} of ${cluster}: it cannot be told whether it is free (${lookup.why})`,
      { retry: 'later' },
    );
  if (lookup.answer === 'used')
    throw new HatcheryError(
      'foreign-guest',
      `Unable to release VMID ${vmid} of ${cluster}: ${lookup.by} has it`,
      {
        retry: 'after-fix',
        hint: 'It is left out as long as a guest has it; there is nothing to release.',
      },
    );
  if (!(await rests.end(cluster, vmid, LEAST_REST_MS, actor)))
    throw refuse('it does not rest any more', `hatchery cluster vmids ${cluster} lists those that do.`);
}
