import type { HatcheryError } from '../core/errors.js';
import type { Call } from './call.js';

export interface AllowEntry {
  /** Lower-case, colon-separated. */
  readonly mac: string;
  readonly description: string;
}

/**
 * A DHCP server that answers only known MAC addresses. Each method costs one conversation with the server, whatever the number of entries,
 * and answers in their order; a refused entry says why in its place and leaves the others be. What is thrown is the outcome of all.
 */
export interface Dhcp {
  readonly service: string;
  /** `undefined` = not listed. The list may say "deny": that is never ours. */
  findAllowed(macs: readonly string[], call: Call): Promise<readonly (AllowEntry | undefined)[]>;
  /** Adds or finds the same entry (same MAC and description); another description: `remote-refused`. Read back before it returns. */
  allow(entries: readonly AllowEntry[], call: Call): Promise<readonly (HatcheryError | undefined)[]>;
  /** Removes only an entry whose description is `entry.description`; not there = success; foreign description: `foreign-guest`. Read back. */
  disallow(
    entries: readonly AllowEntry[],
    call: Call,
  ): Promise<readonly ({ existed: boolean } | HatcheryError)[]>;
  check(call: Call): Promise<readonly { ok: boolean; subject: string; detail: string; remedy?: string }[]>;
}
