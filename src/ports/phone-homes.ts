import type { Secret } from './secrets.js';

/** One-time tokens with which guests tell their own address. Only their hash is kept; a token is good until it was used or the machine's run is over. */
export interface PhoneHomes {
  /** Makes a token for a machine, in place of an earlier one; `undefined` = guests of this cluster are not told to phone home. */
  issue(machineId: string, cluster: string): Promise<Secret | undefined>;
  /** Whose token it is; whether it is still good is decided under the lock of its run (`RunModel.toldAddress`). */
  find(
    token: string,
  ): Promise<{ readonly runId: string; readonly mac: string; readonly hash: string } | undefined>;
}
