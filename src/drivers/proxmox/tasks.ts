import type { Call } from '../../ports/call.js';
import { clusterIdentity } from '../../core/definitions.js';
import { HatcheryError } from '../../core/errors.js';
import type { TaskProgress, TaskRef, TaskVerdict } from '../../ports/hypervisor.js';
import { readAs, type Cluster } from './cluster.js';
import { cleanText } from '../remote-text.js';
import { reasonOf } from './errors.js';
import { lockWaitOf } from './lock-wait.js';
import { TaskDurations } from './task-durations.js';
import { TaskFollower } from './task-follower.js';
import { parseUpid, percentOf, SETTLED, verdictOf } from './upid.js';
import { logLines, taskRows, taskStatus, type TaskRow } from './wire.js';

/** How many rows one list may have; a task that does not fit is asked for by itself. */
const LIST_LIMIT = 500;
/**
 * A first look and two more find most tasks over within a second. In the long run one list of a node in 3.1 s is what ten calls a machine
 * leave room for, where three nodes make one machine in 1.5 s (docs/decisions).
 */
const QUICK_MS = 1_000;
const STEADY_MS = 3_100;
const LEAST_QUICK_MS = 100;
const MARGIN_S = 30;
/** Lines of one read of a log. */
const LOG_LINES = 50;
/** The end of a running task's log that is read again: what it says last may be a warning. */
const TAIL_LINES = 10;
/** The end of a log that people are shown. */
const SHOWN_LINES = 20;
/** Of so many linked clones on shared storage one tells how long it waited for the lock: reading its log is a call. */
const MEASURED_ONE_OF = 6;

/** Remote tasks: lists, logs, and following them to their verdict. */
export class Tasks {
  readonly #cluster: Cluster;
  readonly #followers = new Map<string, TaskFollower>();
  readonly #durations: TaskDurations;
  /** Clones of this process that copy nothing: their logs tell no percentage. */
  readonly #linked = new Set<string>();
  #measurable = 0;
  readonly #measured = new Set<string>();

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.#durations = new TaskDurations(cluster.remoteTimeScale);
  }

  /** `isMeasurable`: its log tells how long it waited for a lock that limits clones. */
  noteLinkedClone(upid: string, isMeasurable: boolean): void {
    if (isMeasurable && this.#measurable++ % MEASURED_ONE_OF === 0) this.#measured.add(upid);
    this.#linked.add(upid);
    const oldest = this.#linked.values().next().value;
    if (this.#linked.size > 1_000 && oldest !== undefined) this.#linked.delete(oldest);
  }

  async follow(
    task: TaskRef,
    call: Call,
    onProgress?: (progress: TaskProgress) => void,
  ): Promise<TaskVerdict> {
    if (task.id.startsWith(SETTLED)) return { verdict: 'ok', warnings: 0 };
    const upid = parseUpid(task.id);
    if (!upid) return { verdict: 'unknown', text: `"${cleanText(task.id)}" names no task` };
    const tellsProgress = upid.type === 'qmclone' && !this.#linked.has(task.id);
    const follower = this.#follower(upid.node);
    const verdict = await follower.follow(task.id, call.signal, tellsProgress ? onProgress : undefined);
    if (verdict.verdict === 'ok' && verdict.warnings > 0)
      await this.#tellWarnings(task.id, verdict.warnings, call);
    return verdict.verdict === 'ok' && this.#measured.delete(task.id)
      ? { ...verdict, ...(await this.#lockWaited(task.id, call.signal)) }
      : verdict;
  }

  /** Only helps to set a limit: without the log there is one measurement less. */
  async #lockWaited(
    id: string,
    signal: AbortSignal,
  ): Promise<Pick<TaskVerdict & { verdict: 'ok' }, 'lockWaited'>> {
    try {
      const waitMs = lockWaitOf((await this.log(id, 0, signal)).lines);
      return waitMs === undefined ? {} : { lockWaited: { waitMs, timedOut: false } };
    } catch (error) {
      if (signal.aborted) throw error;
      return {};
    }
  }

  /** The task did its work, so nothing fails for a log that cannot be read. */
  async #tellWarnings(id: string, count: number, call: Call): Promise<void> {
    if (call.onWarning === undefined) return;
    let texts: readonly string[] = [];
    try {
      const first = await this.log(id, 0, call.signal);
      const { lines } =
        first.total > LOG_LINES ? await this.log(id, first.total - LOG_LINES, call.signal) : first;
      texts = lines.filter((line) => line.startsWith('WARN: ')).map(cleanText);
    } catch (error) {
      if (call.signal.aborted) throw error;
      this.#cluster.log.warn(
        { task: id, error: error instanceof Error ? error.message : String(error) },
        'the warnings of a task cannot be read',
      );
    }
    if (texts.length === 0) texts = [`WARNINGS: ${count}`];
    for (const text of texts) call.onWarning(`${text} (task ${id})`);
  }

  #follower(node: string): TaskFollower {
    let follower = this.#followers.get(node);
    if (!follower) this.#followers.set(node, (follower = this.#newFollower(node)));
    return follower;
  }

  #newFollower(node: string): TaskFollower {
    const { clock, definition, log, news, remoteTimeScale: scale } = this.#cluster;
    const topic = `tasks:${definition.name}:${node}`;
    const identity = clusterIdentity(definition).id;
    const quick = Math.max(LEAST_QUICK_MS, QUICK_MS * scale);
    return new TaskFollower({
      clock,
      paceMs: { quick, steady: Math.max(quick, STEADY_MS * scale) },
      durations: this.#durations,
      kindOf: (upid) => `${this.#linked.has(upid) ? 'linked ' : ''}${parseUpid(upid)?.type ?? ''}`,
      isOurs: (upid) => parseUpid(upid)?.user === identity,
      fellows: {
        tell: (message) => news.tell(topic, message),
        hear: (listener) => news.hear(topic, listener),
        takeTurn: (forMs) => news.takeTurn(topic, forMs),
      },
      patienceMs: Math.max(2_000, 60_000 * scale),
      marginS: Math.ceil(MARGIN_S * scale),
      list: (sinceS, signal) => this.list(node, { since: sinceS }, signal),
      verdict: (upid, signal) => this.verdict(upid, signal),
      progress: (upid, from, signal) => this.#progress(upid, from, signal),
      onTrouble: (error) => log.warn({ node, error: error.message }, 'tasks of a node cannot be listed'),
    });
  }

  /** Tasks of a node, running ones included, newest first. */
  list(
    node: string,
    query: { since?: number; vmid?: number; typefilter?: string; source?: 'active' },
    signal: AbortSignal,
  ): Promise<TaskRow[]> {
    const what = `list the tasks of ${node}`;
    const path = `/nodes/${node}/tasks`;
    return readAs(
      this.#cluster,
      taskRows,
      { op: 'task-list', what, path, query: { source: 'all', limit: LIST_LIMIT, ...query } },
      signal,
    );
  }

  /** The verdict of one task by its own status; `undefined` while it runs, and while it has ended without a word. */
  async verdict(id: string, signal: AbortSignal): Promise<TaskVerdict | undefined> {
    const { node = '', type = '' } = parseUpid(id) ?? {};
    const path = `/nodes/${node}/tasks/${encodeURIComponent(id)}/status`;
    try {
      const request = { op: 'task-status', what: `read the status of task ${id}`, path };
      const status = await readAs(this.#cluster, taskStatus, request, signal);
      const { exitstatus } = status;
      return status.status === 'stopped' && exitstatus !== undefined
        ? verdictOf(exitstatus, type)
        : undefined;
    } catch (error) {
      if (reasonOf(error) === 'task-missing') return { verdict: 'unknown', text: 'no such task' };
      throw error;
    }
  }

  /** The lines of a log from line `from` (0 = first), and how many there are in all. */
  async log(
    id: string,
    from: number,
    signal: AbortSignal,
    limit = LOG_LINES,
  ): Promise<{ lines: readonly string[]; total: number }> {
    const node = parseUpid(id)?.node ?? '';
    const what = `read the log of task ${id}`;
    const path = `/nodes/${node}/tasks/${encodeURIComponent(id)}/log`;
    const request = { op: 'task-log', what, path, query: { start: from, limit } };
    const { data, total } = await this.#cluster.http.read(request, signal);
    const parsed = logLines.safeParse(data);
    if (!parsed.success)
      throw new HatcheryError('cluster-unreachable', `Unable to ${what}: the answer cannot be read`, {
        retry: 'later',
      });
    const lines = parsed.data.map((line) => line.t ?? '');
    return { lines, total: total ?? from + lines.length };
  }

  async logEnd({ id }: TaskRef, signal: AbortSignal): Promise<{ lines: readonly string[]; total: number }> {
    try {
      const { total } = await this.log(id, 0, signal, 1);
      const { lines } = await this.log(id, Math.max(0, total - SHOWN_LINES), signal, SHOWN_LINES);
      return { lines: lines.map(cleanText), total };
    } catch (error) {
      if (reasonOf(error) !== 'task-missing') throw error;
      throw new HatcheryError(
        'not-found',
        `Unable to read the log of task ${id}: the cluster has forgotten it`,
        {
          hint: 'Nodes keep the logs of their newest tasks only.',
          cause: error,
        },
      );
    }
  }

  /** Two reads when nobody knows yet how long the log is, then one: what counts is its end. */
  async #progress(
    id: string,
    from: number | undefined,
    signal: AbortSignal,
  ): Promise<{ percent: number | undefined; next: number }> {
    const start = from ?? tailOf((await this.log(id, 0, signal, 1)).total);
    const { lines, total } = await this.log(id, start, signal);
    return { percent: percentOf(lines), next: Math.max(start, tailOf(total)) };
  }
}

/** The line at which the last lines of a log of so many start. */
function tailOf(total: number): number {
  return Math.max(0, total - TAIL_LINES);
}
