import { holding } from '../process.js';
import type { WorldStorage } from '../world.js';
import { copyMiBps } from './durations.js';
import type { LockUser } from './locks.js';
import type { Pve } from './pve.js';

const STEPS = 20;

/** Copies block by block at the storage's rate, which parallel copies share; unlocked. */
export async function copyBlocks(
  pve: Pve,
  user: LockUser,
  storage: WorldStorage,
  totalGiB: number,
): Promise<void> {
  const speed = copyMiBps(storage) * pve.context.random.stream('copy', user.vmid ?? 0).logNormal(1, 1.5);
  const { copies } = pve;
  copies.set(storage.id, (copies.get(storage.id) ?? 0) + 1);
  const letGo = (): unknown => copies.set(storage.id, (copies.get(storage.id) ?? 1) - 1);
  await holding(letGo, async () => {
    for (let step = 0; step <= STEPS; step += 1) {
      const done = (totalGiB * step) / STEPS;
      user.log?.(`transferred ${size(done)} of ${size(totalGiB)} (${((100 * step) / STEPS).toFixed(2)}%)`);
      if (step < STEPS)
        await pve.context.clock.sleep(
          ((totalGiB * 1024) / STEPS / speed) * 1000 * (copies.get(storage.id) ?? 1),
          user.signal,
        );
    }
  });
}

function size(gib: number): string {
  return gib >= 1 || gib === 0 ? `${gib.toFixed(1)} GiB` : `${(gib * 1024).toFixed(1)} MiB`;
}
