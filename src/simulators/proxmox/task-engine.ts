import { Interrupted } from '../clock.js';
import type { SimulatorContext } from '../context.js';
import type { FiredFaults } from '../faults.js';
import type { HoldPoint } from '../hold.js';
import type { JournalEntry } from '../journal.js';
import { SimProcess } from '../process.js';
import { activeRows, TaskIndex, type TaskRow } from './task-lists.js';
import { formatUpid, type Upid } from './upid.js';

interface TaskSetup {
  readonly node: string;
  readonly type: string;
  readonly id: string;
  readonly actor: string;
  readonly op: string;
  /** Guest that the task is about: for a clone the new one. */
  readonly vmid: number;
  readonly faults: FiredFaults;
  /** Takes away what the request wrote before the task began, when the task fails before its work. One that is killed takes nothing away. */
  readonly revoke?: () => void;
}

/** What the work gives for its `task-end` line; `warnings` makes the verdict `WARNINGS: n`. */
export interface TaskResult extends Partial<JournalEntry> {
  readonly warnings?: number;
}

/** Ends a task with this text; what the journal must say besides (e.g. a config that stays behind has effect true). */
export class TaskFailure extends Error {
  override readonly name = 'TaskFailure';
  constructor(
    message: string,
    readonly journal: Partial<JournalEntry> = {},
  ) {
    super(message);
  }
}

export interface Task extends Upid {
  readonly upid: string;
  readonly vmid: number;
  readonly actor: string;
  readonly lines: readonly string[];
  readonly signal: AbortSignal;
  readonly endTime: number | undefined;
  readonly exitStatus: string | undefined;
  log(line: string): void;
  /** From here on something is left behind if the task is killed: what the journal must say then. */
  did(journal: () => Partial<JournalEntry>): void;
  /** A named point at which tests can stop it. */
  pass(where: HoldPoint): Promise<void>;
}

/** Logs of finished tasks are kept longer than the index names them. */
const KEPT_LOGS = 5_000;
const TELL_MS = 10_000;
/** Of a task whose log ends without a verdict. */
const UNEXPECTED = 'unexpected status';
const KILL_AFTER_MS = 5_000;

class RunningTask implements Task {
  readonly lines: string[] = [];
  readonly stopper = new AbortController();
  readonly process = new SimProcess();
  left: () => Partial<JournalEntry> = () => ({});
  endTime: number | undefined;
  exitStatus: string | undefined;

  constructor(
    private readonly context: SimulatorContext,
    readonly setup: TaskSetup,
    readonly pid: number,
    readonly pstart: number,
    readonly startTime: number,
  ) {}

  get node(): string {
    return this.setup.node;
  }
  get type(): string {
    return this.setup.type;
  }
  get id(): string {
    return this.setup.id;
  }
  get user(): string {
    return this.setup.actor;
  }
  get actor(): string {
    return this.setup.actor;
  }
  get vmid(): number {
    return this.setup.vmid;
  }
  get upid(): string {
    return formatUpid(this);
  }
  get signal(): AbortSignal {
    return this.stopper.signal;
  }
  log(line: string): void {
    this.lines.push(...line.split('\n'));
  }
  did(journal: () => Partial<JournalEntry>): void {
    this.left = journal;
  }
  async pass(where: HoldPoint): Promise<void> {
    const stopped = new Promise<never>((_, reject) => {
      const stop = (): void => reject(new Interrupted('the task was stopped'));
      if (this.signal.aborted) stop();
      else this.signal.addEventListener('abort', stop, { once: true });
    });
    await Promise.race([this.context.holds.pass(this.setup.op, where), stopped]);
    const about = { upid: this.upid };
    if (where === 'task') await this.setup.faults.act('during', about);
    if (where === 'task-end') await this.setup.faults.act('end', about);
    if (this.process.isKilled) await new Promise(() => undefined);
  }
}

/** What one node knows of its tasks. */
class NodeTasks {
  /** Those with a log, in the order of their start. */
  readonly known: RunningTask[] = [];
  readonly running = new Set<RunningTask>();
  readonly index = new TaskIndex<Task>();
  /** What it told the cluster last. */
  active: readonly TaskRow[] = [];
}

/** Starts and keeps worker tasks; there is no queue, every task runs at once. */
export class TaskEngine {
  readonly #byNode = new Map<string, NodeTasks>();
  #nextPid = 4_000;

  constructor(private readonly context: SimulatorContext) {
    context.clock.every(TELL_MS, () => {
      for (const node of this.#byNode.keys()) this.#tell(node);
    });
  }

  /** Forks: gives the task at once; `work` runs beside. */
  start(setup: TaskSetup, work: (task: Task) => Promise<TaskResult>): Task {
    this.#nextPid += 1;
    const pstart = 1_000_000 + Math.floor(this.context.clock.elapsedMs() / 10);
    const task = new RunningTask(
      this.context,
      setup,
      this.#nextPid,
      pstart,
      this.context.clock.unixSeconds(),
    );
    const { known, running } = this.#of(setup.node);
    known.push(task);
    running.add(task);
    if (known.length - running.size > KEPT_LOGS)
      known.splice(
        known.findIndex((old) => old.exitStatus !== undefined),
        1,
      );
    this.#tell(setup.node);
    this.context.journal.record({ ...lineOf(this.context, setup, task), event: 'task-start' });
    task.process.onKill(() => this.#end(task, UNEXPECTED, task.left()));
    void task.process.run(() => this.#run(task, work));
    return task;
  }

  async #run(task: RunningTask, work: (task: Task) => Promise<TaskResult>): Promise<void> {
    const { faults } = task.setup;
    let verdict = 'OK';
    let more: Partial<JournalEntry> = {};
    try {
      await task.pass('task-start');
      const forced = await faults.task('during', task.signal);
      if (forced !== undefined) {
        if (forced !== UNEXPECTED) task.setup.revoke?.();
        throw new TaskFailure(forced);
      }
      const { warnings = 0, ...journal } = await work(task);
      more = journal;
      task.did(() => journal);
      await task.pass('task-end');
      const late = await faults.task('after', task.signal);
      if (late !== undefined) throw new TaskFailure(late, journal);
      const forcedWarnings = faults.own('warn')?.count ?? 0;
      for (let warning = 1; warning <= forcedWarnings; warning += 1)
        task.log(`WARN: simulated warning ${warning}`);
      const count = warnings + forcedWarnings;
      if (count > 0) verdict = `WARNINGS: ${count}`;
    } catch (error) {
      if (this.context.clock.signal.aborted) return;
      if (error instanceof TaskFailure) more = error.journal;
      verdict = error instanceof Interrupted ? 'received interrupt' : messageOf(error);
    }
    if (!task.process.isKilled) this.#end(task, verdict, more);
  }

  #end(task: RunningTask, verdict: string, more: Partial<JournalEntry>): void {
    const { setup } = task;
    if (task.exitStatus !== undefined) return;
    if (verdict !== UNEXPECTED)
      task.log(
        verdict === 'OK' || verdict.startsWith('WARNINGS:') ? `TASK ${verdict}` : `TASK ERROR: ${verdict}`,
      );
    task.exitStatus = verdict.replaceAll('\n', ' ');
    task.endTime = this.context.clock.unixSeconds();
    const { running, index } = this.#of(setup.node);
    running.delete(task);
    index.add(task);
    this.#tell(setup.node);
    this.context.journal.record({
      effect: false,
      ...lineOf(this.context, setup, task),
      ...more,
      ...(setup.faults.ids === undefined ? {} : { fault: setup.faults.ids }),
      event: 'task-end',
      params: { type: setup.type, ...more.params, verdict: task.exitStatus },
    });
  }

  /** Those that run, the newest first. */
  runningOn(node: string): readonly Task[] {
    return [...this.#of(node).running].reverse();
  }

  /** Finished ones that the index still names, the one that ended last first. */
  archivedOn(node: string): readonly Task[] {
    return this.#of(node).index.list();
  }

  /** What the cluster knows of a node's tasks. */
  activeOf(node: string): readonly TaskRow[] {
    return this.#of(node).active;
  }

  find(node: string, upid: string): Task | undefined {
    return this.#of(node).known.find((task) => task.upid === upid);
  }

  /** TERM, and KILL if it is still there 5 s later. */
  interrupt(task: Task): void {
    for (const one of this.#of(task.node).running) {
      if (one !== task) continue;
      one.stopper.abort();
      this.context.clock.after(KILL_AFTER_MS, () => one.process.kill());
    }
  }

  /**
   * KILL: nothing of it goes on, no clean-up runs and its log ends without a verdict. Its flocks are free at once, its cluster locks
   * when they are 120 s old, the `lock` key stays in the config.
   */
  kill(upid: string): void {
    for (const { running } of this.#byNode.values())
      for (const task of running) if (task.upid === upid) task.process.kill();
  }

  /** The node died: all that it ran is killed. What its logs say is there again when the node is. */
  nodeDown(node: string): void {
    for (const task of this.#of(node).running) task.process.kill();
  }

  /** The node's task logs are gone (rotated away, node installed anew): `no such task` from now on. What runs goes on. */
  forget(node: string): void {
    const { running } = this.#of(node);
    const fresh = new NodeTasks();
    for (const task of running) fresh.running.add(task);
    this.#byNode.set(node, fresh);
    this.#tell(node);
  }

  #of(node: string): NodeTasks {
    const known = this.#byNode.get(node) ?? new NodeTasks();
    this.#byNode.set(node, known);
    return known;
  }

  /** A node that is off tells nothing. */
  #tell(node: string): void {
    if (this.context.world.conditions.nodesOff.has(node)) return;
    const tasks = this.#of(node);
    tasks.active = activeRows([...tasks.running], tasks.index.list());
  }
}

function lineOf(context: SimulatorContext, setup: TaskSetup, task: Task): Omit<JournalEntry, 'event'> {
  const { actor, op, node, vmid, type } = { ...setup };
  return {
    sim: 'proxmox',
    actor,
    op,
    cluster: context.world.cluster,
    node,
    vmid,
    upid: task.upid,
    params: { type },
  };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
