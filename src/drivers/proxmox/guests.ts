import { HatcheryError } from '../../core/errors.js';
import { parseMark, type Mark, type MarkIdentity } from '../../core/mark.js';
import type { Call } from '../../ports/call.js';
import type { GuestInfo, GuestRef, OwnLookup, VmidLookup } from '../../ports/hypervisor.js';
import { readAs, type Cluster } from './cluster.js';
import { reasonOf } from './errors.js';
import { ownershipOf, ownGuest } from './guest-config.js';
import type { ClusterReads } from './inventory.js';
import { guestStatus, nextId, vmConfig, type VmConfig } from './wire.js';

const KNOWN_PLACES = 5_000;
/** Configs that were just read, kept for the write that follows. */
const KEPT_CONFIGS = 500;
const KEPT_MS = 30_000;
/** How long a write that carried a digest proves whose guest it went to. */
const WRITTEN_MS = 3_000;

type Found =
  | { readonly found: 'config'; readonly node: string; readonly config: VmConfig }
  | { readonly found: 'container'; readonly node: string }
  | { readonly found: 'none' }
  | { readonly found: 'unknown'; readonly why: string; readonly cause?: HatcheryError };

/** A guest that was just read and bears our mark. */
export interface Owned {
  readonly node: string;
  readonly config: VmConfig;
  readonly mark: Mark;
}

/** As `OwnLookup`, with the config instead of what the port shows of it. */
export type OwnedLookup =
  Exclude<OwnLookup, { answer: 'ours' }> | { readonly answer: 'ours'; readonly owned: Owned };

/** Finds guests and tells whose they are. All answers are three-valued: what cannot be read proves nothing. */
export class GuestReads {
  readonly #cluster: Cluster;
  readonly #reads: ClusterReads;
  /** Where a guest was last seen; a hint that saves an inventory read, checked by each config read. */
  readonly #places = new Map<number, string>();
  readonly #kept = new Map<
    number,
    { readonly node: string; readonly config: VmConfig; readonly at: number; readonly isWritten: boolean }
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
    const { node, config, mark } = judged.owned;
    this.#keep(guest.vmid, { node, config, isWritten: false });
    try {
      const pool = withPool ? await this.#poolOf(guest.vmid, signal) : undefined;
      return { answer: 'ours', guest: ownGuest(config, mark, { node, pool }) };
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
  noteWritten({ node, config, mark }: Owned): void {
    this.#keep(mark.vmid, { node, config, isWritten: true });
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
    const judged = judge({ found: 'config', node: kept.node, config: kept.config }, guest);
    return judged.answer === 'ours' && kept.config.lock === undefined ? judged.owned : undefined;
  }

  /** Errors: `cluster-unreachable` when it cannot be told. */
  async readMark(vmid: number, signal: AbortSignal): Promise<Mark | undefined> {
    const found = await this.#find({ vmid }, signal);
    if (found.found === 'config') return parseMark(found.config.description);
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
  async status(node: string, vmid: number, signal: AbortSignal): Promise<'running' | 'stopped' | 'unknown'> {
    const path = `/nodes/${node}/qemu/${vmid}/status/current`;
    const what = `read the status of guest ${vmid}`;
    const { status } = await readAs(this.#cluster, guestStatus, { op: 'guest-status', what, path }, signal);
    return status === 'running' || status === 'stopped' ? status : 'unknown';
  }

  /** The node of a guest by what was seen last, else by the shared inventory; `undefined` = nobody knows it. */
  async place({ vmid, node }: GuestRef, signal: AbortSignal): Promise<string | undefined> {
    return this.#places.get(vmid) ?? node ?? (await this.#row(vmid, this.#reads.ageMs, signal))?.node;
  }

  /** It is not where it was looked for: a new inventory tells where the next question goes. */
  async relocate(vmid: number, signal: AbortSignal): Promise<void> {
    this.#places.delete(vmid);
    const row = await this.#row(vmid, 0, signal);
    if (row) this.#remember(vmid, row.node);
  }

  /** A guest is about to appear there; while it is being made it may still be elsewhere, which a read finds out. */
  expectAt(vmid: number, node: string): void {
    this.#remember(vmid, node);
  }

  /** Live absence: the cluster's own id table, which knows the configs of both kinds on all nodes, calls the id free. */
  async isGone(vmid: number, signal: AbortSignal): Promise<boolean> {
    return (await this.#isTaken(vmid, signal)).answer === 'free';
  }

  async #find({ vmid, node }: Pick<GuestRef, 'vmid' | 'node'>, signal: AbortSignal): Promise<Found> {
    try {
      const seen = this.#places.get(vmid) ?? node;
      const row = seen === undefined ? await this.#row(vmid, this.#reads.ageMs, signal) : undefined;
      const first = await this.#at(vmid, seen ?? row?.node, row?.kind, signal);
      if (first) return first;
      const taken = await this.#isTaken(vmid, signal);
      if (taken.answer === 'free') return { found: 'none' };
      if (taken.answer === 'unknown') {
        const { answer: found, ...unknown } = taken;
        return { found, ...unknown };
      }
      const fresh = await this.#row(vmid, 0, signal);
      const second = await this.#at(vmid, fresh?.node, fresh?.kind, signal);
      return (
        second ?? { found: 'unknown', why: `guest ${vmid} exists, but its config is not to be seen yet` }
      );
    } catch (error) {
      return { found: 'unknown', ...unread(error, signal) };
    }
  }

  /** `undefined` = no config there. */
  async #at(
    vmid: number,
    node: string | undefined,
    kind: GuestInfo['kind'] | undefined,
    signal: AbortSignal,
  ): Promise<Found | undefined> {
    if (node === undefined) return undefined;
    if (kind === 'lxc') return { found: 'container', node };
    try {
      const config = await this.#readConfig(node, vmid, signal);
      this.#remember(vmid, node);
      return { found: 'config', node, config };
    } catch (error) {
      if (reasonOf(error) !== 'config-missing') throw error;
      this.#places.delete(vmid);
      return undefined;
    }
  }

  #readConfig(node: string, vmid: number, signal: AbortSignal): Promise<VmConfig> {
    const what = `read the config of guest ${vmid} on ${node}`;
    return readAs(
      this.#cluster,
      vmConfig,
      { op: 'config-read', what, path: `/nodes/${node}/qemu/${vmid}/config` },
      signal,
    );
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

  #keep(vmid: number, seen: { node: string; config: VmConfig; isWritten: boolean }): void {
    this.#kept.delete(vmid);
    this.#kept.set(vmid, { ...seen, at: this.#cluster.clock.monotonicMs() });
    const oldest = this.#kept.keys().next().value;
    if (this.#kept.size > KEPT_CONFIGS && oldest !== undefined) this.#kept.delete(oldest);
  }

  #remember(vmid: number, node: string): void {
    this.#places.delete(vmid);
    this.#places.set(vmid, node);
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
    case 'container':
      return { answer: 'foreign', why: `VMID ${identity.vmid} is a container on ${found.node}` };
    case 'config': {
      const ownership = ownershipOf(found.config, identity);
      if (ownership.owner !== 'ours') return { answer: ownership.owner, why: ownership.why };
      return { answer: 'ours', owned: { node: found.node, config: found.config, mark: ownership.mark } };
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

function lockedGuest(what: string, vmid: number, { config, node }: Owned): HatcheryError {
  return new HatcheryError('lock-timeout', `Unable to ${what}: guest ${vmid} is locked (${config.lock})`, {
    retry: 'later',
    hint: `wait for the job that holds the lock; if nothing runs any more, an admin unlocks on ${node}: qm unlock ${vmid}`,
    facts: { reason: 'locked', lock: config.lock },
  });
}

/** A failed read, for a three-valued answer. What is not a remote failure (abort, bug) goes on as it is. */
function unread(error: unknown, signal: AbortSignal): { why: string; cause: HatcheryError } {
  if (signal.aborted || !(error instanceof HatcheryError)) throw error;
  return { why: error.message, cause: error };
}
