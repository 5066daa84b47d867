import { HatcheryError } from '../../core/errors.js';
import { parseMark, type MarkIdentity } from '../../core/mark.js';
import { plainCall, type Call } from '../../ports/call.js';
import type { GuestRef, TaskRef, Trace } from '../../ports/hypervisor.js';
import type { Cluster } from './cluster.js';
import { reasonOf } from './errors.js';
import { foreignGuest, type GuestReads } from './guests.js';
import type { ClusterReads } from './inventory.js';
import { SETTLED } from './upid.js';
import type { TaskRow } from './wire.js';

/** The node's clock and ours may differ by so much. */
const SKEW_S = 120;
/** How far back a task is looked for when the request itself is told that its VMID is taken. */
const LOOK_BACK_MS = 3_600_000;
const SETTLE_POLLS = 2;
const SETTLE_MS = 1_000;

/** Tasks of ours that made, or make, one guest. */
export type MakingTasks =
  | {
      readonly running: string | undefined;
      /** One that runs and does not say what it makes: it is this guest if the guest is there and being made. */
      readonly maybeRunning?: string | undefined;
      /** Newest first. */
      readonly ended: readonly { readonly id: string; readonly isOk: boolean }[];
    }
  | { readonly why: string; readonly cause?: HatcheryError };

/** A request that makes a guest under a fixed VMID. */
export interface Making {
  /** Completes "Unable to ...". */
  readonly what: string;
  /** Names it in a sentence: `clone`. */
  readonly noun: string;
  readonly vmid: number;
  /** Where the guest comes to be. */
  readonly node: string;
  readonly description: string;
  /** `sinceS`: Unix time in seconds by which the request cannot have been sent yet. */
  readonly tasks: (sinceS: number, signal: AbortSignal) => Promise<MakingTasks>;
}

/** Sends requests that make guests, and finds out what became of one whose answer was lost. */
export class Makings {
  readonly #cluster: Cluster;
  readonly #reads: ClusterReads;
  readonly #guests: GuestReads;

  constructor(cluster: Cluster, reads: ClusterReads, guests: GuestReads) {
    this.#cluster = cluster;
    this.#reads = reads;
    this.#guests = guests;
  }

  /**
   * Sends the request, unless its VMID is taken: then the guest there is looked at first.
   * A guest with our mark is our own earlier one and gives its task; a foreign one is `foreign-guest`; what cannot be told yet is `outcome-unknown`.
   */
  async start(making: Making, send: () => Promise<TaskRef>, call: Call): Promise<TaskRef> {
    const identity = this.#identityOf(making);
    // A collision with another node may show only in the task's end: the shared inventory tells it before.
    const map = await this.#reads.map(this.#reads.ageMs, call.signal);
    if (map.guests.some((guest) => guest.vmid === making.vmid)) {
      const earlier = await this.#resolveTaken(making, identity, call);
      if (earlier) return earlier;
    }
    try {
      return await send();
    } catch (error) {
      if (reasonOf(error) !== 'already-exists') throw error;
      const earlier = await this.#resolveTaken(making, identity, call);
      // Free again since the refusal: the next attempt sends.
      if (!earlier) throw error;
      return earlier;
    }
  }

  /** The mark in the description is what makes the guest ours from its first moment: without it nothing is sent. */
  #identityOf({ what, vmid, description }: Making): MarkIdentity {
    const mark = parseMark(description);
    if (mark?.vmid === vmid && mark.deployment === this.#cluster.deployment) return mark;
    throw new HatcheryError(
      'internal',
      `Unable to ${what}: the description lacks the mark of this deployment`,
    );
  }

  /** The task of our own guest under a VMID that is said to be taken; `undefined` = nobody has it any more. */
  async #resolveTaken(making: Making, identity: MarkIdentity, call: Call): Promise<TaskRef | undefined> {
    const sinceMs = this.#cluster.clock.wallMs() - LOOK_BACK_MS;
    const evidence = await this.#look(making, identity, sinceMs, call.signal);
    if (evidence.found === 'nothing') return undefined;
    if (evidence.found !== 'unknown') return evidence.value;
    throw new HatcheryError('outcome-unknown', `Unable to ${making.what}: it is taken, and ${evidence.why}`, {
      retry: 'later',
    });
  }

  /** `nothing` only when two looks, a settle time apart, agree on it. Errors: `foreign-guest`. */
  async trace(making: Making, guest: GuestRef, sinceMs: number, call: Call): Promise<Trace<TaskRef>> {
    const settleMs = Math.max(200, SETTLE_MS * this.#cluster.remoteTimeScale);
    for (let poll = 1; ; poll += 1) {
      const evidence = await this.#look(making, guest, sinceMs, call.signal);
      if (evidence.found !== 'nothing' || poll > SETTLE_POLLS) return evidence;
      await this.#cluster.clock.sleep(settleMs, call.signal);
    }
  }

  async #look(
    { what, noun, vmid, node, tasks: tasksOf }: Making,
    guest: GuestRef,
    sinceMs: number,
    signal: AbortSignal,
  ): Promise<Trace<TaskRef>> {
    const tasks = await whatIsReadable(signal, () =>
      tasksOf(Math.max(0, Math.floor(sinceMs / 1_000) - SKEW_S), signal),
    );
    if ('why' in tasks) return { found: 'unknown', ...tasks };
    if (tasks.running !== undefined) return { found: 'running', value: { id: tasks.running } };
    const own = await this.#guests.readOwn(guest, plainCall(signal), { withPool: true });
    switch (own.answer) {
      case 'foreign':
        throw foreignGuest(what, vmid, own.why);
      case 'unknown':
        return { found: 'unknown', why: own.why, ...(own.cause && { cause: own.cause }) };
      case 'none':
        if (tasks.ended.some((task) => task.isOk))
          return { found: 'unknown', why: `a ${noun} into VMID ${vmid} succeeded, but the guest is gone` };
        return { found: 'nothing' };
      case 'ours': {
        const made = own.guest;
        if (made.lock !== undefined) {
          if (tasks.maybeRunning !== undefined && made.lock === 'create')
            return { found: 'running', value: { id: tasks.maybeRunning } };
          return {
            found: 'unknown',
            why: `guest ${vmid} is locked (${made.lock}), and no ${noun} of it runs`,
          };
        }
        // The task that succeeded; else the last one that failed, whose verdict says why the guest is not whole.
        const ended = tasks.ended.find((task) => task.isOk) ?? tasks.ended[0];
        if (ended) return { found: 'done', value: { id: ended.id } };
        if (made.node !== node)
          return { found: 'unknown', why: `guest ${vmid} is on ${made.node} instead of ${node}` };
        if (made.pool !== this.#cluster.definition.pool)
          return {
            found: 'unknown',
            why: `guest ${vmid} is not in the pool ${this.#cluster.definition.pool}`,
          };
        return { found: 'done', value: { id: `${SETTLED}${vmid}` } };
      }
    }
  }
}

async function whatIsReadable(signal: AbortSignal, read: () => Promise<MakingTasks>): Promise<MakingTasks> {
  try {
    return await read();
  } catch (error) {
    if (signal.aborted || !(error instanceof HatcheryError) || error.retry !== 'later') throw error;
    return { why: error.message, cause: error };
  }
}

export const isRunning = (row: TaskRow): boolean =>
  row.endtime === undefined && (row.status === undefined || row.status === 'RUNNING');

export const isSuccess = ({ status = '' }: TaskRow): boolean =>
  status === 'OK' || /^WARNINGS: \d+$/.test(status);
