import { drawMs } from './durations.js';
import type { LockUser } from './locks.js';
import type { Pve } from './pve.js';
import { failure } from './wire.js';

/** The last step of a creation, under the lock that all changes of users, rights and pools share. */
export async function joinPool(pve: Pve, user: LockUser, pool: string, vmid: number): Promise<void> {
  await pve.locks.with(user, 'file-user_cfg', async (signal) => {
    await pve.context.clock.sleep(drawMs(pve.context, 'cluster-write', vmid), signal);
    const found = pve.world.pools.get(pool);
    if (!found) throw failure(`pool '${pool}' does not exist`);
    found.members.add(vmid);
  });
}
