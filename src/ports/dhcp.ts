import type { Call } from './call.js';

export interface AllowEntry {
  /** Lower-case, colon-separated. */
  readonly mac: string;
  readonly description: string;
}

/** A DHCP server that answers only known MAC addresses. */
export interface Dhcp {
  readonly service: string;
  /** `undefined` = not listed. The list may say "deny": that is never ours. */
  findAllowed(mac: string, call: Call): Promise<AllowEntry | undefined>;
  /** Adds or finds the same entry (same MAC and description); another description: `foreign-guest`-like refusal `remote-refused`. Read back before it returns. */
  allow(entry: AllowEntry, call: Call): Promise<void>;
  /** Removes only an entry whose description is `entry.description`; not there = success; foreign description: `foreign-guest`. Read back. */
  disallow(entry: AllowEntry, call: Call): Promise<{ existed: boolean }>;
  check(call: Call): Promise<readonly { ok: boolean; subject: string; detail: string; remedy?: string }[]>;
}
