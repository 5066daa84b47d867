import { HatcheryError } from '../../core/errors.js';
import type { Clock } from '../../ports/clock.js';
import type { TaskProgress, TaskVerdict } from '../../ports/hypervisor.js';
import { parseUpid, verdictOf } from './upid.js';
import type { TaskRow } from './wire.js';

export interface FollowerOptions {
  readonly clock: Clock;
  readonly tickMs: number;
  /** How long lists may fail in a row before those who wait are told. */
  readonly patienceMs: number;
  /** Tasks started at or after `sinceS` (seconds of the node's clock). */
  readonly list: (sinceS: number, signal: AbortSignal) => Promise<readonly TaskRow[]>;
  readonly verdict: (upid: string, signal: AbortSignal) => Promise<TaskVerdict | undefined>;
  /** Without `fromLine` it must find the end of the log first: two reads instead of one. */
  readonly progress: (
    upid: string,
    fromLine: number | undefined,
    signal: AbortSignal,
  ) => Promise<{ percent: number | undefined; next: number }>;
  readonly onTrouble: (error: Error) => void;
}

interface Followed {
  readonly settle: (verdict: TaskVerdict) => void;
  readonly fail: (error: Error) => void;
  readonly onProgress: ((progress: TaskProgress) => void) | undefined;
}

interface FollowedTask {
  readonly callers: Set<Followed>;
  missingTicks: number;
  nextLogLine: number | undefined;
  percent: number;
}

/** A task that several lists in a row do not show is asked for by itself. */
const MISSING_TICKS = 3;
/** Logs are looked into every few ticks, and never many at once: each read occupies one of three workers of the node. */
const PROGRESS_TICKS = 3;
const PROGRESS_READS = 4;

/**
 * Follows all awaited tasks of one node with one list per tick. Starts with the first caller and stops with the last.
 * A list that fails is tried again at the next tick, as long as patience lasts; then, and at once for an error that no waiting cures, every
 * caller gets the error: nobody keeps a worker for a node that is down.
 */
export class TaskFollower {
  readonly #options: FollowerOptions;
  readonly #tasks = new Map<string, FollowedTask>();
  #stop: AbortController | undefined;

  constructor(options: FollowerOptions) {
    this.#options = options;
  }

  /** Ends with the verdict, an error that is not worth waiting for, or the signal's reason. */
  follow(
    upid: string,
    signal: AbortSignal,
    onProgress: ((progress: TaskProgress) => void) | undefined,
  ): Promise<TaskVerdict> {
    return new Promise<TaskVerdict>((resolve, reject) => {
      if (signal.aborted) {
        reject(signal.reason as Error);
        return;
      }
      const leave = (): void => {
        this.#drop(upid, followed);
        reject(signal.reason as Error);
      };
      const end = (): void => {
        signal.removeEventListener('abort', leave);
        this.#drop(upid, followed);
      };
      const followed: Followed = {
        onProgress,
        settle: (verdict) => {
          end();
          resolve(verdict);
        },
        fail: (error) => {
          end();
          reject(error);
        },
      };
      signal.addEventListener('abort', leave, { once: true });
      const task = this.#tasks.get(upid) ?? {
        callers: new Set(),
        missingTicks: 0,
        nextLogLine: undefined,
        percent: -1,
      };
      task.callers.add(followed);
      this.#tasks.set(upid, task);
      if (!this.#stop) void this.#run((this.#stop = new AbortController()));
    });
  }

  #drop(upid: string, followed: Followed): void {
    const task = this.#tasks.get(upid);
    task?.callers.delete(followed);
    if (task?.callers.size === 0) this.#tasks.delete(upid);
    if (this.#tasks.size > 0) return;
    this.#stop?.abort();
    this.#stop = undefined;
  }

  async #run(stop: AbortController): Promise<void> {
    let troubledSinceMs: number | undefined;
    for (let tick = 1; !stop.signal.aborted; tick += 1) {
      try {
        await this.#options.clock.sleep(this.#options.tickMs, stop.signal);
        await this.#tick(tick, stop.signal);
        troubledSinceMs = undefined;
      } catch (error) {
        if (stop.signal.aborted) return;
        const nowMs = this.#options.clock.monotonicMs();
        const isOver = troubledSinceMs !== undefined && nowMs - troubledSinceMs >= this.#options.patienceMs;
        if (isOver || !isWorthWaiting(error)) {
          for (const task of [...this.#tasks.values()]) failAll(task, toError(error));
          return;
        }
        if (troubledSinceMs === undefined) this.#options.onTrouble(toError(error));
        troubledSinceMs ??= nowMs;
      }
    }
  }

  async #tick(tick: number, signal: AbortSignal): Promise<void> {
    const sinceS = Math.min(...[...this.#tasks.keys()].map((upid) => parseUpid(upid)?.startedAtS ?? 0));
    const rows = new Map((await this.#options.list(sinceS, signal)).map((row) => [row.upid, row]));
    for (const [upid, task] of [...this.#tasks]) {
      const row = rows.get(upid);
      if (row) {
        task.missingTicks = 0;
        if (hasEnded(row) && (row.status ?? '') === '') await this.#askAlone(upid, task, signal);
        else if (hasEnded(row)) settleAll(task, verdictOf(row.status ?? '', parseUpid(upid)?.type ?? ''));
      } else {
        task.missingTicks += 1;
        if (task.missingTicks % MISSING_TICKS !== 0) continue;
        await this.#askAlone(upid, task, signal);
      }
    }
    if (tick % PROGRESS_TICKS === 0) await this.#tellProgress(signal);
  }

  async #askAlone(upid: string, task: FollowedTask, signal: AbortSignal): Promise<void> {
    try {
      const verdict = await this.#options.verdict(upid, signal);
      if (verdict) settleAll(task, verdict);
    } catch (error) {
      if (isWorthWaiting(error) || signal.aborted) throw error;
      failAll(task, toError(error));
    }
  }

  /** Those that were read longest ago first: a task that was read goes to the end of the map. */
  async #tellProgress(signal: AbortSignal): Promise<void> {
    const asked = [...this.#tasks].filter(([, task]) =>
      [...task.callers].some((caller) => caller.onProgress),
    );
    let reads = PROGRESS_READS;
    for (const [upid, task] of asked) {
      reads -= task.nextLogLine === undefined ? 2 : 1;
      if (reads < 0) return;
      if (!this.#tasks.delete(upid)) continue;
      this.#tasks.set(upid, task);
      try {
        const { percent, next } = await this.#options.progress(upid, task.nextLogLine, signal);
        task.nextLogLine = next;
        if (percent === undefined || percent <= task.percent) continue;
        task.percent = percent;
        for (const caller of task.callers) caller.onProgress?.({ percent });
      } catch (error) {
        // A percentage that cannot be read hurts nobody: the list brings the verdict.
        if (!signal.aborted) this.#options.onTrouble(toError(error));
      }
    }
  }
}

/** Running tasks have no end time, and `RUNNING` or nothing as status. */
function hasEnded(row: TaskRow): boolean {
  return (
    row.endtime !== undefined || (row.status !== undefined && row.status !== '' && row.status !== 'RUNNING')
  );
}

function settleAll(task: FollowedTask, verdict: TaskVerdict): void {
  for (const caller of [...task.callers]) caller.settle(verdict);
}

function failAll(task: FollowedTask, error: Error): void {
  for (const caller of [...task.callers]) caller.fail(error);
}

function isWorthWaiting(error: unknown): boolean {
  return error instanceof HatcheryError && error.retry === 'later';
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
