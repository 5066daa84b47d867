import { z } from 'zod';
import { HatcheryError } from '../../core/errors.js';
import type { Clock } from '../../ports/clock.js';
import type { TaskProgress, TaskVerdict } from '../../ports/hypervisor.js';
import type { Turn } from '../../ports/shared-news.js';
import { ListPace, type PaceMs } from './list-pace.js';
import type { TaskDurations } from './task-durations.js';
import { parseUpid, verdictOf } from './upid.js';
import { taskRows, type TaskRow } from './wire.js';

/** One list, as told to the other processes that follow tasks of this node. */
const listNews = z.object({ sinceS: z.number(), rows: taskRows });

/** The other followers of this node, in other processes. */
export interface FellowFollowers {
  tell(message: unknown): void;
  hear(listener: (message: unknown) => void): void;
  takeTurn(forMs: number): Promise<Turn | undefined>;
}

export interface FollowerOptions {
  readonly clock: Clock;
  readonly paceMs: PaceMs;
  readonly durations: TaskDurations;
  /** Under which its duration is learned. */
  readonly kindOf: (upid: string) => string;
  readonly fellows: FellowFollowers;
  /** How long lists may fail in a row before those who wait are told. */
  readonly patienceMs: number;
  /** Tasks of others may have begun so much earlier than the oldest of ours: a list goes back that far. */
  readonly marginS: number;
  /** Tasks started at or after `sinceS` (seconds of the node's clock). */
  readonly list: (sinceS: number, signal: AbortSignal) => Promise<readonly TaskRow[]>;
  /** Whether a row is of our own doing, and so of interest to our other processes. */
  readonly isOurs: (upid: string) => boolean;
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
  readonly kind: string;
  readonly startedAtS: number;
  /** When we began to follow it, which is when it began, but for one that an earlier process began. */
  readonly sinceMs: number;
  dueMs: number;
  isLearned: boolean;
  missing: number;
  /** The list does not tell about it: it is asked for by itself. */
  isAlone: boolean;
  progressDueMs: number;
  nextLogLine: number | undefined;
  percent: number;
}

/** A task that several lists in a row do not show is asked for by itself. */
const MISSING_LISTS = 3;
/** A task that runs longer than expected is looked at again after this part of its age, but within so many quick gaps. */
const AGE_PART = 0.25;
const LONGEST_QUICKS = 10;
/** Logs are looked into every few quick gaps, the rarer the longer a task runs, and never many at once: each read occupies one of three workers of the node. */
const PROGRESS_QUICKS = 3;
const PROGRESS_AGE_PART = 0.1;
const PROGRESS_READS = 4;
/** Others wait so many quick gaps for the list of a process that died over it. */
const TURN_QUICKS = 5;

/**
 * Follows all awaited tasks of one node by its task list, which is read when a task is expected to be over and which all processes of the
 * deployment share: who reads it tells the others. Starts with the first caller and stops with the last.
 * A list that fails is tried again, as long as patience lasts; then, and at once for an error that no waiting cures, every
 * caller gets the error: nobody keeps a worker for a node that is down.
 */
export class TaskFollower {
  readonly #options: FollowerOptions;
  readonly #tasks = new Map<string, FollowedTask>();
  readonly #pace: ListPace;
  #stop: AbortController | undefined;
  /** Ends the sleep until the next look: something may be due earlier now. */
  #poke: AbortController | undefined;
  /** Another process reads the list: its rows are waited for until then. */
  #othersTurnUntilMs = 0;

  constructor(options: FollowerOptions) {
    this.#options = options;
    this.#pace = new ListPace(options.paceMs);
    options.fellows.hear((message) => this.#hear(message));
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
      const task = this.#tasks.get(upid) ?? this.#newTask(upid);
      task.callers.add(followed);
      this.#tasks.set(upid, task);
      if (this.#stop) this.#poke?.abort();
      else void this.#run((this.#stop = new AbortController()));
    });
  }

  #newTask(upid: string): FollowedTask {
    const { clock, durations, kindOf, paceMs } = this.#options;
    const now = clock.monotonicMs();
    const kind = kindOf(upid);
    return {
      callers: new Set(),
      kind,
      startedAtS: parseUpid(upid)?.startedAtS ?? 0,
      sinceMs: now,
      dueMs: now + durations.expectedMs(kind),
      isLearned: false,
      missing: 0,
      isAlone: false,
      progressDueMs: now + PROGRESS_QUICKS * paceMs.quick,
      nextLogLine: undefined,
      percent: -1,
    };
  }

  #drop(upid: string, followed: Followed): void {
    const task = this.#tasks.get(upid);
    task?.callers.delete(followed);
    if (task?.callers.size === 0) this.#tasks.delete(upid);
    if (this.#tasks.size > 0) return;
    this.#stop?.abort();
    this.#stop = undefined;
    this.#poke?.abort();
  }

  async #run(stop: AbortController): Promise<void> {
    const { clock, patienceMs, onTrouble } = this.#options;
    let troubledSinceMs: number | undefined;
    while (!stop.signal.aborted) {
      try {
        if (await this.#sleepUntilNext()) continue;
        const hasListed = await this.#look(stop.signal);
        await this.#tellProgress(stop.signal);
        if (hasListed) troubledSinceMs = undefined;
      } catch (error) {
        if (stop.signal.aborted) return;
        const nowMs = clock.monotonicMs();
        const isOver = troubledSinceMs !== undefined && nowMs - troubledSinceMs >= patienceMs;
        if (isOver || !isWorthWaiting(error)) {
          for (const task of [...this.#tasks.values()]) failAll(task, toError(error));
          return;
        }
        if (troubledSinceMs === undefined) onTrouble(toError(error));
        troubledSinceMs ??= nowMs;
      }
    }
  }

  /** Gives whether there was time to sleep; afterwards other things may be due than before. */
  async #sleepUntilNext(): Promise<boolean> {
    const now = this.#options.clock.monotonicMs();
    const inMs =
      Math.min(this.#nextListMs(now), ...this.#asking().map(([, task]) => task.progressDueMs)) - now;
    if (inMs <= 0) return false;
    const poke = (this.#poke = new AbortController());
    await this.#options.clock.sleep(Math.ceil(inMs), poke.signal).catch((error: unknown) => {
      if (!poke.signal.aborted) throw error;
    });
    return true;
  }

  #nextListMs(nowMs: number): number {
    const due = Math.min(...[...this.#tasks.values()].map((task) => task.dueMs));
    return Math.max(due, this.#pace.earliestMs(nowMs), this.#othersTurnUntilMs);
  }

  /** Reads the list if it is time and our turn. */
  async #look(signal: AbortSignal): Promise<boolean> {
    const { clock, paceMs, fellows, list, marginS, isOurs } = this.#options;
    if (this.#nextListMs(clock.monotonicMs()) > clock.monotonicMs()) return false;
    const turn = await fellows.takeTurn(TURN_QUICKS * paceMs.quick);
    if (!turn) {
      this.#othersTurnUntilMs = clock.monotonicMs() + paceMs.quick;
      return false;
    }
    try {
      // While it was asked for, the list of another process may have come.
      if (this.#nextListMs(clock.monotonicMs()) > clock.monotonicMs()) return false;
      this.#pace.noteList(clock.monotonicMs());
      const oldestS = Math.min(...[...this.#tasks.values()].map((task) => task.startedAtS));
      const sinceS = Math.max(0, oldestS - marginS);
      const rows = await list(sinceS, signal);
      const ours = rows.filter(({ upid }) => isOurs(upid));
      fellows.tell({ sinceS, rows: ours.map(({ upid, status, endtime }) => ({ upid, status, endtime })) });
      this.#judge(sinceS, rows);
    } finally {
      turn.end();
    }
    for (const [upid, task] of [...this.#tasks]) if (task.isAlone) await this.#askAlone(upid, task, signal);
    return true;
  }

  #hear(message: unknown): void {
    const news = listNews.safeParse(message).data;
    if (!news) return;
    this.#pace.noteList(this.#options.clock.monotonicMs());
    this.#othersTurnUntilMs = 0;
    this.#judge(news.sinceS, news.rows);
    this.#poke?.abort();
  }

  #judge(sinceS: number, list: readonly TaskRow[]): void {
    const { clock, durations } = this.#options;
    const now = clock.monotonicMs();
    const rows = new Map(list.map((row) => [row.upid, row]));
    for (const [upid, task] of [...this.#tasks]) {
      if (task.startedAtS < sinceS) continue;
      const row = rows.get(upid);
      const isOver = row !== undefined && hasEnded(row);
      if (row && !task.isLearned) task.isLearned = durations.noteLook(task.kind, now - task.sinceMs, isOver);
      task.missing = row ? 0 : task.missing + 1;
      task.isAlone = row ? isOver && !row.status : task.missing % MISSING_LISTS === 0;
      if (task.dueMs <= now) task.dueMs = now + this.#gapMs(task, now, AGE_PART);
      if (isOver && row.status) settleAll(task, verdictOf(row.status, parseUpid(upid)?.type ?? ''));
    }
  }

  #gapMs(task: FollowedTask, nowMs: number, agePart: number): number {
    const { quick } = this.#options.paceMs;
    return Math.min(LONGEST_QUICKS * quick, Math.max(quick, (nowMs - task.sinceMs) * agePart));
  }

  async #askAlone(upid: string, task: FollowedTask, signal: AbortSignal): Promise<void> {
    task.isAlone = false;
    try {
      const verdict = await this.#options.verdict(upid, signal);
      if (verdict) settleAll(task, verdict);
    } catch (error) {
      if (isWorthWaiting(error) || signal.aborted) throw error;
      failAll(task, toError(error));
    }
  }

  #asking(): [string, FollowedTask][] {
    return [...this.#tasks].filter(([, task]) => [...task.callers].some((caller) => caller.onProgress));
  }

  /** Those that were read longest ago first: a task that was read goes to the end of the map. */
  async #tellProgress(signal: AbortSignal): Promise<void> {
    const { clock, paceMs, progress, onTrouble } = this.#options;
    const now = clock.monotonicMs();
    let reads = PROGRESS_READS;
    for (const [upid, task] of this.#asking()) {
      if (task.progressDueMs > now) continue;
      task.progressDueMs =
        now + Math.max(PROGRESS_QUICKS * paceMs.quick, this.#gapMs(task, now, PROGRESS_AGE_PART));
      reads -= task.nextLogLine === undefined ? 2 : 1;
      if (reads < 0 || !this.#tasks.delete(upid)) continue;
      this.#tasks.set(upid, task);
      try {
        const { percent, next } = await progress(upid, task.nextLogLine, signal);
        task.nextLogLine = next;
        if (percent === undefined || percent <= task.percent) continue;
        task.percent = percent;
        for (const caller of task.callers) caller.onProgress?.({ percent });
      } catch (error) {
        // A percentage that cannot be read hurts nobody: the list brings the verdict.
        if (!signal.aborted) onTrouble(toError(error));
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
