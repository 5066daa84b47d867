import { HatcheryError } from '../../core/errors.js';
import { parseMark, type Mark, type MarkIdentity } from '../../core/mark.js';
import type { Call } from '../../ports/call.js';
import type { GuestInfo, GuestKind, GuestRef, OwnLookup, VmidLookup } from '../../ports/hypervisor.js';
import { readAs, type Cluster } from './cluster.js';
import { reasonOf } from './errors.js';
import { ownershipOf, ownGuest, type GuestConfig } from './guest-config.js';
import { guestPath, KINDS } from './guest-kind.js';
import type { ClusterReads } from './inventory.js';
import { containerConfig, guestStatus, nextId, vmConfig } from './wire.js';

const KNOWN_PLACES = 5_000;
/** Configs that were just read, kept for the write that follows. */
const KEPT_CONFIGS = 500;
const KEPT_MS = 30_000;
/** How long a write that carried a digest proves whose guest it went to. */
const WRITTEN_MS = 3_000;

/** Where a guest is, and of which kind. */
export interface GuestPlace {
  readonly node: string;
  readonly kind: GuestKind;
}

type Seen = GuestConfig & { readonly node: string };

type Found =
  | { readonly found: 'config'; readonly seen: Seen }
  | ({ readonly found: 'other-kind' } & GuestPlace)
  | { readonly found: 'none' }
  | { readonly found: 'unknown'; readonly why: string; readonly cause?: HatcheryError };

/** A guest that was just read and bears our mark. */
export type Owned = Seen & { readonly mark: Mark };

/** As `OwnLookup`, with the config instead of what the port shows of it. */
export type OwnedLookup =
  Exclude<OwnLookup, { answer: 'ours' }> | { readonly answer: 'ours'; readonly owned: Owned };

/** Finds guests and tells whose they are. All answers are three-valued: what cannot be read proves nothing. */
export class GuestReads {
  readonly #cluster: Cluster;
  readonly #reads: ClusterReads;
  /** Where a guest was last seen; a hint that saves an inventory read, checked by each config read. */
  readonly #places = new Map<number, GuestPlace>();
  readonly #kept = new Map<
    number,
    { readonly seen: Seen; readonly at: number; readonly isWritten: boolean }
  >();

  constructor(cluster: Cluster, reads: ClusterReads) {
    this.#cluster = cluster;
    this.#reads = reads;
  }

  /**
   * By the shared inventory, where it shows every guest of the cluster; else the id table is asked for this one id.
   * Both tell the moment only: whoever takes the id next is found out by the clone, which the cluster then refuses.
   */
  async lookupVmid(
    vmid: number,
    { signal }: Call,
    { isLive = false }: { isLive?: boolean } = {},
  ): Promise<VmidLookup> {
    try {
      const row = await this.#row(vmid, this.#reads.ageMs, signal);
      if (row) return { answer: 'used', by: `${row.kind} ${vmid} on ${row.node}` };
      if (isLive || !(await this.#reads.seesAllGuests(signal))) return await this.#isTaken(vmid, signal);
      return await this.#freeIfQuorate(signal);
    } catch (error) {
      return { answer: 'unknown', ...unread(error, signal) };
    }
  }

  async readOwn(
    guest: GuestRef,
    { signal }: Call,
    { withPool = false }: { withPool?: boolean } = {},
  ): Promise<OwnLookup> {
    const judged = await this.readOwned(guest, signal);
    if (judged.answer !== 'ours') return judged;
    const { mark, ...seen } = judged.owned;
    this.#keep(guest.vmid, { seen, isWritten: false });
    try {
      const pool = withPool ? await this.#poolOf(guest.vmid, signal) : undefined;
      return { answer: 'ours', guest: ownGuest(seen, mark, { node: seen.node, pool }) };
    } catch (error) {
      return { answer: 'unknown', ...unread(error, signal) };
    }
  }

  /** As `readOwn`, with the config. */
  async readOwned(guest: GuestRef, signal: AbortSignal): Promise<OwnedLookup> {
    return judge(await this.#find(guest, signal), guest);
  }

  /**
   * Our guest as `readOwn` saw it a moment ago, once: only for a write that carries the digest of that config, which the cluster refuses
   * when anything of it has changed since. `undefined` = it was not read lately, or is locked.
   */
  takeKept(guest: GuestRef): Owned | undefined {
    return this.#take(guest, false, KEPT_MS);
  }

  /** The cluster has just accepted a write with the digest of this config: until then it was exactly this guest, and it was ours. */
  noteWritten({ mark, ...seen }: Owned): void {
    this.#keep(mark.vmid, { seen, isWritten: true });
  }

  /**
   * Our guest as it was right before a write of ours a moment ago, once: for one more write that is harmless to whoever is there, and that
   * needs nothing of what the first one changed. `undefined` = read it.
   */
  takeWritten(guest: GuestRef): Owned | undefined {
    return this.#take(guest, true, WRITTEN_MS);
  }

  #take(guest: GuestRef, isWritten: boolean, maxAgeMs: number): Owned | undefined {
    const kept = this.#kept.get(guest.vmid);
    this.#kept.delete(guest.vmid);
    if (kept?.isWritten !== isWritten || this.#cluster.clock.monotonicMs() - kept.at > maxAgeMs)
      return undefined;
    const judged = judge({ found: 'config', seen: kept.seen }, guest);
    return judged.answer === 'ours' && kept.seen.config.lock === undefined ? judged.owned : undefined;
  }

  /** Errors: `cluster-unreachable` when it cannot be told. */
  async readMark(vmid: number, signal: AbortSignal): Promise<Mark | undefined> {
    const found = await this.#find({ vmid }, signal);
    if (found.found === 'config') return parseMark(found.seen.config.description);
    if (found.found === 'unknown')
      throw new HatcheryError(
        'cluster-unreachable',
        `Unable to read the mark of guest ${vmid}: ${found.why}`,
        {
          retry: 'later',
        },
      );
    return undefined;
  }

  /** Our guest, right before a write; see `needOwned`. */
  async need(what: string, guest: GuestRef, signal: AbortSignal): Promise<Owned> {
    return needOwned(what, guest.vmid, await this.readOwned(guest, signal));
  }

  /** Live, from the node that runs it. */
  async status(
    { node, kind }: GuestPlace,
    vmid: number,
    signal: AbortSignal,
  ): Promise<'running' | 'stopped' | 'unknown'> {
    const path = `${guestPath(node, kind, vmid)}/status/current`;
    const what = `read the status of guest ${vmid}`;
    const { status } = await readAs(this.#cluster, guestStatus, { op: 'guest-status', what, path }, signal);
    return status === 'running' || status === 'stopped' ? status : 'unknown';
  }

  /** Where a guest is by what was seen last, else by the shared inventory; `undefined` = nobody knows it. */
  async place(guest: GuestRef, signal: AbortSignal): Promise<GuestPlace | undefined> {
    return this.#lastSeen(guest) ?? (await this.#row(guest.vmid, this.#reads.ageMs, signal));
  }

  /** It is not where it was looked for: a new inventory tells where the next question goes. */
  async relocate(vmid: number, signal: AbortSignal): Promise<void> {
    this.#places.delete(vmid);
    const row = await this.#row(vmid, 0, signal);
    if (row) this.#remember(vmid, row);
  }

  /** A guest is about to appear there; while it is being made it may still be elsewhere, which a read finds out. */
  expectAt(vmid: number, place: GuestPlace): void {
    this.#remember(vmid, place);
  }

  /** Live absence: the cluster's own id table, which knows the configs of both kinds on all nodes, calls the id free. */
  async isGone(vmid: number, signal: AbortSignal): Promise<boolean> {
    return (await this.#isTaken(vmid, signal)).answer === 'free';
  }

  /** What was seen last, unless it is of another kind than the guest that is meant: the id may have changed hands since. */
  #lastSeen({ vmid, node, kind }: Pick<GuestRef, 'vmid' | 'node' | 'kind'>): GuestPlace | undefined {
    const known = this.#places.get(vmid);
    if (known !== undefined && (kind === undefined || known.kind === kind)) return known;
    return node === undefined ? undefined : { node, kind: kind ?? 'qemu' };
  }

  async #find(guest: Pick<GuestRef, 'vmid' | 'node' | 'kind'>, signal: AbortSignal): Promise<Found> {
    const { vmid } = guest;
    try {
      const seen = this.#lastSeen(guest) ?? (await this.#row(vmid, this.#reads.ageMs, signal));
      const first = await this.#at(guest, seen, signal);
      if (first) return first;
      const taken = await this.#isTaken(vmid, signal);
      if (taken.answer === 'free') return { found: 'none' };
      if (taken.answer === 'unknown') {
        const { answer: found, ...unknown } = taken;
        return { found, ...unknown };
      }
      const fresh = await this.#row(vmid, 0, signal);
      const second = await this.#at(guest, fresh, signal);
      return (
        second ?? { found: 'unknown', why: `guest ${vmid} exists, but its config is not to be seen yet` }
      );
    } catch (error) {
      return { found: 'unknown', ...unread(error, signal) };
    }
  }

  /** `undefined` = no config there. */
  async #at(
    { vmid, kind: wanted }: Pick<GuestRef, 'vmid' | 'kind'>,
    place: GuestPlace | undefined,
    signal: AbortSignal,
  ): Promise<Found | undefined> {
    if (place === undefined) return undefined;
    const { node, kind } = place;
    if (wanted !== undefined && wanted !== kind) return { found: 'other-kind', node, kind };
    try {
      const seen = await this.#readConfig(place, vmid, signal);
      this.#remember(vmid, { node, kind });
      return { found: 'config', seen };
    } catch (error) {
      if (reasonOf(error) !== 'config-missing') throw error;
      this.#places.delete(vmid);
      return undefined;
    }
  }

  async #readConfig({ node, kind }: GuestPlace, vmid: number, signal: AbortSignal): Promise<Seen> {
    const what = `read the config of guest ${vmid} on ${node}`;
    const request = { op: 'config-read', what, path: `${guestPath(node, kind, vmid)}/config` };
    return kind === 'qemu'
      ? { node, kind, config: await readAs(this.#cluster, vmConfig, request, signal) }
      : { node, kind, config: await readAs(this.#cluster, containerConfig, request, signal) };
  }

  /** Asks the id table, which knows both kinds on all nodes and guests that we may not see; "free" counts only with quorum. */
  async #isTaken(vmid: number, signal: AbortSignal): Promise<VmidLookup> {
    try {
      const request = {
        op: 'nextid',
        what: `look up VMID ${vmid}`,
        path: '/cluster/nextid',
        query: { vmid },
      };
      const answer = await readAs(this.#cluster, nextId, request, signal);
      if (answer !== vmid)
        return { answer: 'unknown', why: `the cluster answers ${answer} when asked about ${vmid}` };
      return await this.#freeIfQuorate(signal);
    } catch (error) {
      if (reasonOf(error) === 'already-exists') return { answer: 'used', by: `a guest with VMID ${vmid}` };
      return { answer: 'unknown', ...unread(error, signal) };
    }
  }

  async #freeIfQuorate(signal: AbortSignal): Promise<VmidLookup> {
    if (await this.#reads.quorate(this.#reads.ageMs, signal)) return { answer: 'free' };
    throw new HatcheryError('cluster-no-quorum', 'the cluster has no quorum', { retry: 'later' });
  }

  async #row(vmid: number, maxAgeMs: number, signal: AbortSignal): Promise<GuestInfo | undefined> {
    const map = await this.#reads.map(maxAgeMs, signal);
    return map.guests.find((guest) => guest.vmid === vmid);
  }

  /** Membership does not go away by itself, so a kept "yes" is good; a kept "no" may be older than the clone's last act. */
  async #poolOf(vmid: number, signal: AbortSignal): Promise<string | undefined> {
    const own = this.#cluster.definition.pool;
    const row = await this.#row(vmid, this.#reads.ageMs, signal);
    if (row?.pool !== undefined) return row.pool;
    return (await this.#reads.poolMembers(0, signal)).has(vmid) ? own : undefined;
  }

  #keep(vmid: number, { seen, isWritten }: { seen: Seen; isWritten: boolean }): void {
    this.#kept.delete(vmid);
    this.#kept.set(vmid, { seen, isWritten, at: this.#cluster.clock.monotonicMs() });
    const oldest = this.#kept.keys().next().value;
    if (this.#kept.size > KEPT_CONFIGS && oldest !== undefined) this.#kept.delete(oldest);
  }

  #remember(vmid: number, { node, kind }: GuestPlace): void {
    this.#places.delete(vmid);
    this.#places.set(vmid, { node, kind });
    const oldest = this.#places.keys().next().value;
    if (this.#places.size > KNOWN_PLACES && oldest !== undefined) this.#places.delete(oldest);
  }
}

/**
 * The guest of a lookup, if it may be written.
 * Errors: `foreign-guest`; `lock-timeout` while the config is locked; `remote-refused` (after-fix) when it is gone; `cluster-unreachable` when it cannot be told.
 */
export function needOwned(what: string, vmid: number, read: OwnedLookup): Owned {
  switch (read.answer) {
    case 'none':
      throw new HatcheryError('remote-refused', `Unable to ${what}: guest ${vmid} is not there any more`, {
        retry: 'after-fix',
        hint: 'somebody removed it: delete the machine and create it again',
        facts: { reason: 'config-missing' },
      });
    case 'foreign':
      throw foreignGuest(what, vmid, read.why);
    case 'unknown':
      throw new HatcheryError('cluster-unreachable', `Unable to ${what}: ${read.why}`, { retry: 'later' });
    case 'ours':
      if (read.owned.config.lock !== undefined) throw lockedGuest(what, vmid, read.owned);
      return read.owned;
  }
}

function judge(found: Found, identity: MarkIdentity): OwnedLookup {
  switch (found.found) {
    case 'none':
      return { answer: 'none' };
    case 'unknown': {
      const { found: answer, ...unknown } = found;
      return { answer, ...unknown };
    }
    case 'other-kind':
      return {
        answer: 'foreign',
        why: `VMID ${identity.vmid} is a ${KINDS[found.kind].noun} on ${found.node}`,
      };
    case 'config': {
      const ownership = ownershipOf(found.seen.config, identity);
      if (ownership.owner !== 'ours') return { answer: ownership.owner, why: ownership.why };
      return { answer: 'ours', owned: { ...found.seen, mark: ownership.mark } };
    }
  }
}

export function foreignGuest(what: string, vmid: number, why: string): HatcheryError {
  return new HatcheryError('foreign-guest', `Unable to ${what}: ${why}`, {
    retry: 'after-fix',
    hint: 'nothing was written to it; find out who made it',
    facts: { vmid },
  });
}

function lockedGuest(what: string, vmid: number, { config, node, kind }: Owned): HatcheryError {
  return new HatcheryError('lock-timeout', `Unable to ${what}: guest ${vmid} is locked (${config.lock})`, {
    retry: 'later',
    hint: `wait for the job that holds the lock; if nothing runs any more, an admin unlocks on ${node}: ${KINDS[kind].tool} unlock ${vmid}`,
    facts: { reason: 'locked', lock: config.lock },
  });
}

/** A failed read, for a three-valued answer. What is not a remote failure (abort, bug) goes on as it is. */
function unread(error: unknown, signal: AbortSignal): { why: string; cause: HatcheryError } {
  if (signal.aborted || !(error instanceof HatcheryError)) throw error;
  return { why: error.message, cause: error };
}
