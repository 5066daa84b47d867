import { HatcheryError } from '../core/errors.js';
import { StoreUnavailable } from '../ports/store-unavailable.js';
import type { OverdueStep } from '../ports/run-store.js';
import type { GroupRule } from '../ports/step-groups.js';
import { changeRun, type EngineParts } from './engine.js';
import { groupRules } from './groups.js';
import type { RunModel } from './run-model.js';
import { SlotDispatcher } from './slot-dispatcher.js';

/** Posts the summary of a batch that has come to rest; throws when it did not arrive. */
export type Notifier = (batchId: string) => Promise<void>;

const RELAY_BATCH = 200;
const SWEEP_BATCH = 100;
const STRAY_MS = 60_000;
const WATCH_MS = 30_000;
const STOP_MS = 2_000;
const LEARN_MS = 2_000;

/**
 * Keeps work flowing from Postgres to the queue, in every process that runs the engine:
 * the relay (outbox to queue), the dispatcher (slots; one process at a time per cluster) and the sweeper (dead workers, lost dispatches).
 * Everything happens on a wake-up and at least once a second; two of each are harmless.
 */
export class Caretaker {
  private readonly stopping = new AbortController();
  private readonly loops: Promise<void>[] = [];
  private readonly unsubscribe: (() => void)[] = [];
  private readonly wakers = new Map<string, () => void>();
  /** Clusters that another process dispatches; asked about again a tick later, not at each of the wake-ups in between. */
  private readonly othersUntilMs = new Map<string, number>();
  private readonly watched = new Set<string>();
  /** Of the steps that are overdue: which one was looked for in the queue last, when there were more behind it. */
  private lookedUpTo: OverdueStep | undefined;
  private readonly groupRules: readonly GroupRule[];
  /** By cluster: wakes the dispatcher when the next window of a group ends. */
  private readonly windows = new Map<string, NodeJS.Timeout>();
  private readonly slotDispatchers: ReadonlyMap<string, SlotDispatcher>;
  private readonly dispatcherOf = new Map<string, { lost: AbortSignal; release(): Promise<void> }>();

  constructor(
    private readonly parts: EngineParts,
    private readonly options: {
      clusters: readonly string[];
      /** Slots that a resource has, as configured. */
      limitOf: (resource: string) => number;
      notify: Notifier;
      /** Looks for guests of other deployments in our range; asked by the dispatcher alone, first before it admits anything. */
      watchCluster?: (cluster: string, signal: AbortSignal) => Promise<void>;
      watchMs?: number;
      /** Looks for guests of a cluster that nobody counts on; asked by its dispatcher alone. */
      findStrays?: (cluster: string, signal: AbortSignal) => Promise<number>;
      strayMs?: number;
      /** Counts how long finished steps took, a round at a time; gives whether there are more. Asked by a dispatcher alone. */
      learn?: () => Promise<boolean>;
    },
  ) {
    this.groupRules = groupRules(parts, parts.ports.remoteTimeScale);
    this.slotDispatchers = new Map(
      options.clusters.map((cluster) => [cluster, new SlotDispatcher(cluster, parts, options.limitOf)]),
    );
  }

  start(): void {
    const { sweepMs } = this.parts.times;
    this.loop('outbox', sweepMs, async () => {
      while (
        (await this.parts.store.relay((items) => this.parts.dispatch.send(items), RELAY_BATCH)) ===
        RELAY_BATCH
      );
    });
    this.loop('work', sweepMs, () => this.dispatchAll());
    this.loop('dead', sweepMs, () => this.buryDead());
    this.loop('lost', sweepMs, () => this.handOverAgain());
    this.loop('settle', sweepMs, () => this.parts.store.settleLeft());
    // They waited for half a minute already.
    this.loop('unknown', 10 * sweepMs, () => this.parkUnknown());
    this.loop('gone', sweepMs, () => this.advanceAll());
    const { findStrays, strayMs = STRAY_MS, watchMs = WATCH_MS } = this.options;
    this.loop('range', watchMs, () => this.watchAll());
    this.loop('outage', sweepMs, () => this.probeAll());
    if (findStrays) this.loop('strays', strayMs, () => this.findAllStrays(findStrays));
    const { learn } = this.options;
    if (learn) this.loop('durations', LEARN_MS, () => this.learnAll(learn));
    this.loop('notify', sweepMs, () => this.notifyAll());
    for (const topic of ['outbox', 'gone', 'work'] as const)
      this.unsubscribe.push(this.parts.wakeUps.on(topic, () => this.wakers.get(topic)?.()));
  }

  async stop(): Promise<void> {
    this.stopping.abort();
    for (const wake of this.wakers.values()) wake();
    for (const off of this.unsubscribe) off();
    for (const window of this.windows.values()) clearTimeout(window);
    // A round that waits for Redis is left to itself: what it was about to do is done by others, or again.
    const ended = new AbortController();
    const patience = this.parts.clock.sleep(STOP_MS, ended.signal).catch(() => undefined);
    await Promise.race([Promise.all(this.loops), patience]);
    ended.abort();
    await Promise.all([...this.dispatcherOf.values()].map((held) => held.release()));
  }

  /** Runs `work` at each wake-up and every `everyMs`; a failure is logged and the next round comes. */
  private loop(name: string, everyMs: number, work: () => Promise<void>): void {
    const { signal } = this.stopping;
    let woken = false;
    const round = async (): Promise<void> => {
      while (!signal.aborted) {
        woken = false;
        await work().catch((error: unknown) => {
          if (!signal.aborted) this.parts.log.warn({ err: error, loop: name }, 'a caretaker round failed');
        });
        if (woken) continue;
        await new Promise<void>((resolve) => {
          const wake = (): void => {
            clearTimeout(timer);
            resolve();
          };
          const timer = setTimeout(wake, everyMs);
          this.wakers.set(name, () => {
            woken = true;
            wake();
          });
        });
      }
    };
    this.wakers.set(name, () => (woken = true));
    this.loops.push(round());
  }

  private async dispatchAll(): Promise<void> {
    for (const [cluster, slots] of this.slotDispatchers) {
      if (!(await this.isDispatcher(cluster)) || !(await this.isWatched(cluster))) continue;
      await this.openGroups(cluster);
      if ((await slots.admitAll()) > 0) this.parts.wakeUps.notify('outbox');
    }
  }

  /** Groups of steps are admitted when their window ends, which no commit tells. */
  private async openGroups(cluster: string): Promise<void> {
    if (this.groupRules.length === 0) return;
    const againMs = await this.parts.groups.open(cluster, this.groupRules);
    clearTimeout(this.windows.get(cluster));
    if (againMs !== undefined)
      this.windows.set(
        cluster,
        setTimeout(() => this.wakers.get('work')?.(), againMs),
      );
  }

  private async findAllStrays(
    find: (cluster: string, signal: AbortSignal) => Promise<number>,
  ): Promise<void> {
    for (const cluster of this.options.clusters)
      if (await this.isDispatcher(cluster)) await find(cluster, this.stopping.signal);
  }

  /** Not each of the processes: one counts for all clusters. */
  private async learnAll(learn: () => Promise<boolean>): Promise<void> {
    for (const cluster of this.options.clusters)
      if (await this.isDispatcher(cluster)) {
        while (!this.stopping.signal.aborted && (await learn()));
        return;
      }
  }

  private async probeAll(): Promise<void> {
    for (const cluster of this.options.clusters)
      if ((await this.isDispatcher(cluster)) && (await this.parts.breaker.probe(cluster)))
        this.parts.wakeUps.notify('work');
  }

  private async watchAll(): Promise<void> {
    for (const cluster of this.options.clusters)
      if (await this.isDispatcher(cluster)) await this.watch(cluster);
  }

  /** A range that nobody looked at yet may be somebody else's too. */
  private async isWatched(cluster: string): Promise<boolean> {
    return this.watched.has(cluster) || (await this.watch(cluster));
  }

  /** A cluster that cannot be read must not keep the others waiting. Gives whether it was looked at. */
  private async watch(cluster: string): Promise<boolean> {
    try {
      await this.options.watchCluster?.(cluster, this.stopping.signal);
      this.watched.add(cluster);
      return true;
    } catch (error) {
      if (this.stopping.signal.aborted || error instanceof StoreUnavailable) throw error;
      this.parts.log.warn({ err: error, cluster }, 'the VMID range of a cluster could not be looked at');
      return false;
    }
  }

  private async isDispatcher(cluster: string): Promise<boolean> {
    const held = this.dispatcherOf.get(cluster);
    if (held && !held.lost.aborted) return true;
    this.dispatcherOf.delete(cluster);
    const { clock, locks, times } = this.parts;
    if (clock.monotonicMs() < (this.othersUntilMs.get(cluster) ?? 0)) return false;
    const taken = await locks.tryHold(`dispatcher:${cluster}`, 'admits due steps to their slots');
    if (taken) this.dispatcherOf.set(cluster, taken);
    else this.othersUntilMs.set(cluster, clock.monotonicMs() + times.sweepMs / 2);
    return taken !== undefined;
  }

  private async buryDead(): Promise<void> {
    for (let isMore = true; isMore && !this.stopping.signal.aborted;) {
      const left = await this.parts.store.buryDead(SWEEP_BATCH);
      let changed = 0;
      for (const { stepId, workerId, isOneOfMany } of left) {
        this.parts.log.warn({ step: stepId, worker: workerId }, 'a worker is gone: its step is due again');
        if (await this.change({ stepId }, (model) => model.lost(workerId, { isOneOfMany }))) changed += 1;
      }
      // Those that cannot be changed come again with the next round.
      isMore = left.length === SWEEP_BATCH && changed > 0;
    }
  }

  private async handOverAgain(): Promise<void> {
    const { store, dispatch, log, times } = this.parts;
    for (let again = 1; again > 0 && !this.stopping.signal.aborted;) {
      const overdue = await store.overdue(times.overdueMs, SWEEP_BATCH, this.lookedUpTo);
      // Where many wait in the queue, the next round goes on behind those that were looked at.
      this.lookedUpTo = overdue.length === SWEEP_BATCH ? overdue.at(-1) : undefined;
      const lost = overdue.length === 0 ? [] : await dispatch.missing(overdue);
      again = lost.length === 0 ? 0 : await store.redispatch(lost);
      if (again === 0) return;
      log.warn({ steps: again }, 'the queue does not have these steps: handing them over again');
      this.parts.wakeUps.notify('outbox');
    }
  }

  private async parkUnknown(): Promise<void> {
    for (const stepId of await this.parts.store.unknownSteps(SWEEP_BATCH))
      await this.change({ stepId }, (model) => model.parkUnknown(stepId));
  }

  private async advanceAll(): Promise<void> {
    for (
      let next = await this.parts.store.takeAdvance();
      next !== undefined;
      next = await this.parts.store.takeAdvance()
    ) {
      const { runId, outboxId } = next;
      if (await this.change({ runId }, (model) => model.wantGone()))
        await this.parts.store.advanced(outboxId);
      if (this.stopping.signal.aborted) return;
    }
  }

  /** One run that cannot be changed must not keep the others behind it waiting. Gives whether it was. */
  private async change(
    by: { stepId: string } | { runId: string },
    work: (model: RunModel) => void,
  ): Promise<boolean> {
    try {
      await changeRun(this.parts, by, work);
      return true;
    } catch (error) {
      if (error instanceof StoreUnavailable) throw error;
      this.parts.log.error({ ...by, err: error }, 'a run could not be changed');
      return false;
    }
  }

  private async notifyAll(): Promise<void> {
    for (
      let next = await this.parts.store.takeNotice();
      next !== undefined;
      next = await this.parts.store.takeNotice()
    ) {
      const { batchId, tries } = next;
      try {
        await this.options.notify(batchId);
        await this.parts.store.advanced(next.outboxId);
      } catch (error) {
        if (!(error instanceof HatcheryError)) throw error;
        this.parts.log.warn({ batch: batchId, tries, err: error }, 'the summary did not arrive');
        if (error.retry === 'never') await this.parts.store.advanced(next.outboxId);
      }
    }
  }
}
