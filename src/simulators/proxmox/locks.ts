import { Interrupted } from '../clock.js';
import type { SimulatorContext } from '../context.js';
import { holding, SimProcess } from '../process.js';
import { needQuorum } from './quorum.js';
import { failure } from './wire.js';

export interface LockUser {
  readonly actor: string;
  readonly node: string;
  readonly vmid?: number;
  readonly upid?: string;
  readonly signal?: AbortSignal | undefined;
  readonly log?: (line: string) => void;
}

interface FileLock {
  shared: number;
  isExclusive: boolean;
  readonly waiters: { readonly mode: Mode; readonly grant: () => void }[];
}
type Mode = 'shared' | 'exclusive';

/** flock files of the nodes: blocking, first come first served, with the waits and texts of PVE. Contended ones are in the journal. */
export class FileLocks {
  readonly #locks = new Map<string, FileLock>();

  constructor(private readonly context: SimulatorContext) {}

  async with<T>(
    user: LockUser,
    path: string,
    mode: Mode,
    waitMs: number,
    work: () => Promise<T>,
  ): Promise<T> {
    const { clock, journal } = this.context;
    const key = `${user.node}:${path}`;
    const askedAt = clock.elapsedMs();
    const isContended = !this.#tryTake(key, mode);
    const hold = {
      sim: 'proxmox',
      event: 'hold',
      cluster: this.context.world.cluster,
      op: 'lock.file',
    } as const;
    const by = {
      actor: user.actor,
      node: user.node,
      resource: `${user.node}:${path.slice(path.lastIndexOf('/') + 1)}`,
    };
    const more = {
      ...(user.vmid === undefined ? {} : { vmid: user.vmid }),
      ...(user.upid === undefined ? {} : { upid: user.upid }),
    };
    if (isContended) {
      user.log?.('trying to acquire lock...');
      if (!(await this.#wait(key, mode, waitMs, user.signal))) {
        journal.record({
          ...hold,
          ...by,
          ...more,
          effect: false,
          waitMs: Math.round(clock.elapsedMs() - askedAt),
        });
        throw failure(`can't lock file '${path}' - got timeout`);
      }
    }
    const gotAt = clock.elapsedMs();
    return holding(() => {
      this.#release(key, mode);
      const [waited, held] = [gotAt - askedAt, clock.elapsedMs() - gotAt].map(Math.round);
      if (isContended)
        journal.record({ ...hold, ...by, ...more, effect: true, waitMs: waited, holdMs: held });
    }, work);
  }

  #tryTake(key: string, mode: Mode): boolean {
    const lock = this.#locks.get(key) ?? { shared: 0, isExclusive: false, waiters: [] };
    this.#locks.set(key, lock);
    if (lock.isExclusive || lock.waiters.length > 0 || (mode === 'exclusive' && lock.shared > 0))
      return false;
    if (mode === 'exclusive') lock.isExclusive = true;
    else lock.shared += 1;
    return true;
  }

  async #wait(key: string, mode: Mode, waitMs: number, signal: AbortSignal | undefined): Promise<boolean> {
    const lock = this.#locks.get(key)!;
    const over = new AbortController();
    let isGranted = false;
    const waiter = {
      mode,
      grant: () => {
        isGranted = true;
        forgetKill?.();
        over.abort();
      },
    };
    lock.waiters.push(waiter);
    const leave = (): void => {
      lock.waiters.splice(lock.waiters.indexOf(waiter), 1);
      this.#grantNext(key);
    };
    const forgetKill = SimProcess.current()?.onKill(leave);
    try {
      await this.context.clock.sleep(waitMs, signal ? AbortSignal.any([over.signal, signal]) : over.signal);
    } catch (error) {
      if (!(error instanceof Interrupted)) throw error;
      if (isGranted && !signal?.aborted) return true;
      if (isGranted) this.#release(key, mode);
      else leave();
      throw error;
    } finally {
      forgetKill?.();
    }
    if (isGranted) return true;
    leave();
    return false;
  }

  #release(key: string, mode: Mode): void {
    const lock = this.#locks.get(key)!;
    if (mode === 'exclusive') lock.isExclusive = false;
    else lock.shared -= 1;
    this.#grantNext(key);
  }

  #grantNext(key: string): void {
    const lock = this.#locks.get(key)!;
    for (let next = lock.waiters[0]; next !== undefined; next = lock.waiters[0]) {
      if (lock.isExclusive || (next.mode === 'exclusive' && lock.shared > 0)) return;
      lock.waiters.shift();
      if (next.mode === 'exclusive') lock.isExclusive = true;
      else lock.shared += 1;
      next.grant();
    }
    if (!lock.isExclusive && lock.shared === 0) this.#locks.delete(key);
  }
}

const OBTAIN_MS = 10_000;
const WORK_MS = 60_000;
const STALE_MS = 120_000;

/**
 * Cluster-wide locks (`storage-<id>`, `file-user_cfg`): polled, not queued, hence unfair; 10 s to obtain, 60 s for the work.
 * They are directories of the cluster file system: one whose holder was killed stays until it is 120 s old.
 * Until pve-cluster 9.1.0 they are polled once a second, since then after a tenth of the remaining time, at most 1 s.
 */
export class ClusterLocks {
  readonly #held = new Set<string>();

  constructor(private readonly context: SimulatorContext) {}

  async with<T>(user: LockUser, id: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { clock, journal, world } = this.context;
    const askedAt = clock.elapsedMs();
    const line = {
      sim: 'proxmox',
      event: 'hold',
      op: 'lock.cluster',
      cluster: world.cluster,
      actor: user.actor,
      node: user.node,
      resource: id,
      ...(user.vmid === undefined ? {} : { vmid: user.vmid }),
      ...(user.upid === undefined ? {} : { upid: user.upid }),
    } as const;
    needQuorum(world);
    while (this.#held.has(id)) {
      const remainingMs = OBTAIN_MS - (clock.elapsedMs() - askedAt);
      if (remainingMs <= 0) {
        journal.record({ ...line, effect: false, waitMs: Math.round(clock.elapsedMs() - askedAt) });
        throw failure(`cfs-lock '${id}' error: got lock request timeout`);
      }
      user.log?.(`trying to acquire cfs lock '${id}' ...`);
      await clock.sleep(
        world.lockPolling === 'legacy' ? 1_000 : Math.min(1_000, remainingMs / 10),
        user.signal,
      );
    }
    this.#held.add(id);
    const gotAt = clock.elapsedMs();
    const over = new AbortController();
    const giveBack = (isKilled: boolean): void => {
      over.abort();
      const [waited, held] = [gotAt - askedAt, clock.elapsedMs() - gotAt].map(Math.round);
      journal.record({ ...line, effect: true, waitMs: waited, holdMs: held });
      if (isKilled) clock.after(STALE_MS - held!, () => this.#held.delete(id));
      else this.#held.delete(id);
    };
    return holding(giveBack, () => {
      const limit = clock.sleep(WORK_MS, over.signal).then(
        () => Promise.reject(failure(`'${id}'-locked command timed out - aborting`)),
        () => new Promise<never>(() => undefined),
      );
      const stop = user.signal ? AbortSignal.any([user.signal, over.signal]) : over.signal;
      return Promise.race([work(stop), limit]);
    });
  }
}
