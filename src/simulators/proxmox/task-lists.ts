import type { Upid } from './upid.js';

const ROTATE_BYTES = 50_000;
const ACTIVE_ENTRIES = 25;
const ACTIVE_BYTES = 32_768;

/** What the lists know of a task. */
interface ListedTask extends Upid {
  readonly upid: string;
  readonly endTime: number | undefined;
  readonly exitStatus: string | undefined;
}

export type TaskRow = Readonly<Record<string, unknown>>;

/** The parts of a UPID, as every list shows them. */
export function headOf(task: ListedTask): TaskRow {
  const mark = task.user.indexOf('!');
  const who =
    mark < 0 ? { user: task.user } : { user: task.user.slice(0, mark), tokenid: task.user.slice(mark + 1) };
  const { upid, node, pid, pstart, startTime, type, id } = task;
  return { upid, node, pid, pstart, starttime: startTime, type, id, ...who };
}

/** The index of a node's finished tasks: a file that is turned over at 50 kB, and the one before it. */
export class TaskIndex<T extends ListedTask> {
  #current: T[] = [];
  #previous: T[] = [];
  #bytes = 0;

  add(task: T): void {
    if (this.#bytes > ROTATE_BYTES) {
      this.#previous = this.#current;
      this.#current = [];
      this.#bytes = 0;
    }
    this.#current.push(task);
    this.#bytes += `${task.upid} 00000000 ${task.exitStatus}\n`.length;
  }

  /** The one that ended last comes first. */
  list(): T[] {
    return [...this.#previous, ...this.#current].reverse();
  }
}

/**
 * What a node tells the cluster of its tasks, newest first: all that run, and of the finished ones as many as make 25 in all. The text is
 * cut to 32 KiB, the oldest first: with many running tasks even some of those are missing.
 */
export function activeRows(running: readonly ListedTask[], finished: readonly ListedTask[]): TaskRow[] {
  const shown = [...running, ...finished.slice(0, Math.max(0, ACTIVE_ENTRIES - running.length))];
  const rows = shown
    .sort((a, b) => b.startTime - a.startTime || b.pid - a.pid)
    .map((task) =>
      task.exitStatus === undefined
        ? headOf(task)
        : { ...headOf(task), endtime: task.endTime, status: task.exitStatus, saved: '1' },
    );
  let bytes = 2;
  const fits = rows.findIndex((row) => (bytes += JSON.stringify(row).length + 1) > ACTIVE_BYTES);
  return fits < 0 ? rows : rows.slice(0, fits);
}
