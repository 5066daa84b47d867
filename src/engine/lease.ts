import { setMaxListeners } from 'node:events';
import { hostname } from 'node:os';
import { v7 as uuidv7 } from 'uuid';
import { HatcheryError } from '../core/errors.js';
import type { Clock } from '../ports/clock.js';
import type { HeldStep, RunStore } from '../ports/run-store.js';

export interface LeaseTimes {
  readonly leaseMs: number;
  readonly heartbeatMs: number;
}

/** Every attempt in hand listens to its term. */
function newTerm(): AbortController {
  const term = new AbortController();
  setMaxListeners(0, term.signal);
  return term;
}

/**
 * A worker's right to hold steps: one heartbeat row, renewed every `heartbeatMs` for `leaseMs`.
 * The deadline is counted on the monotonic clock from before the heartbeat was sent, so it is never later than what Postgres believes.
 * When it passes, `signal` aborts and everything in hand stops; the next good heartbeat begins a new term (under a new id if we were declared dead).
 */
export class WorkerLease {
  #id = uuidv7();
  #deadlineMs = 0;
  #term = newTerm();
  #stopping = new AbortController();
  #loops: Promise<void>[] = [];
  #isHandingOver = false;
  #isDraining = false;

  constructor(
    private readonly store: RunStore,
    private readonly clock: Clock,
    private readonly versions: readonly string[],
    private readonly times: LeaseTimes,
    private readonly events: {
      onLost: (why: string) => void;
      /** With each heartbeat: what Postgres believes to be in this worker's hands. */
      onHeld: (held: readonly HeldStep[]) => void;
      /** A person asks this worker to take no new step. Told once. */
      onDrain: () => void;
    },
  ) {}

  get workerId(): string {
    return this.#id;
  }

  /** Ends with the current term. */
  get signal(): AbortSignal {
    return this.#term.signal;
  }

  get isHeld(): boolean {
    return this.clock.monotonicMs() < this.#deadlineMs;
  }

  /** The worker gives back what it has and takes nothing new. */
  get isEnding(): boolean {
    return this.#isHandingOver;
  }

  /** The last synchronous act before a write leaves. Throws `LeaseOver` when the lease is over. */
  assertHeld(): void {
    if (!this.isHeld) throw leaseOver();
  }

  async start(): Promise<void> {
    await this.register();
    this.#loops = [this.beat(), this.watch()];
  }

  /** Aborts what is in hand while the lease still holds, so that attempts can give their steps back in good order. */
  handOver(): void {
    this.#isHandingOver = true;
    this.#term.abort(leaseOver());
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.#loops);
    await this.store.stopWorker(this.#id);
    this.#deadlineMs = 0;
  }

  private async register(): Promise<void> {
    const sentMs = this.clock.monotonicMs();
    await this.store.registerWorker({
      id: this.#id,
      host: hostname(),
      pid: process.pid,
      versions: this.versions,
      leaseMs: this.times.leaseMs,
    });
    this.#deadlineMs = sentMs + this.times.leaseMs;
  }

  private async beat(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      await this.sleep(this.isHeld ? this.times.heartbeatMs : Math.min(500, this.times.heartbeatMs));
      if (this.#stopping.signal.aborted) return;
      await this.renew().catch((error: unknown) => this.events.onLost(`heartbeat failed: ${String(error)}`));
    }
  }

  /** Ends the term when its time is over, also while a heartbeat waits for its answer. */
  private async watch(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      const leftMs = this.#deadlineMs - this.clock.monotonicMs();
      await this.sleep(leftMs > 0 ? leftMs : this.times.heartbeatMs);
      if (!this.isHeld) this.endTerm('the lease ran out before Postgres answered');
    }
  }

  private sleep(ms: number): Promise<void> {
    return this.clock.sleep(ms, this.#stopping.signal).catch(() => undefined);
  }

  private async renew(): Promise<void> {
    const sentMs = this.clock.monotonicMs();
    const pulse = await this.store.heartbeat(this.#id, this.times.leaseMs);
    if (pulse === undefined) {
      this.endTerm('this worker was declared dead');
      this.#id = uuidv7();
      await this.register();
    } else this.#deadlineMs = sentMs + this.times.leaseMs;
    if (this.#term.signal.aborted && !this.#isHandingOver) this.#term = newTerm();
    if (pulse === undefined) return;
    this.events.onHeld(pulse.held);
    if (!pulse.isDraining || this.#isDraining) return;
    this.#isDraining = true;
    this.events.onDrain();
  }

  private endTerm(why: string): void {
    this.#deadlineMs = 0;
    if (this.#term.signal.aborted) return;
    this.#term.abort(leaseOver());
    this.events.onLost(why);
  }
}

export class LeaseOver extends HatcheryError {}

const leaseOver = (): LeaseOver =>
  new LeaseOver('internal', 'Unable to go on with the step: the worker’s lease is over', { retry: 'later' });
