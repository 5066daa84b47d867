import { Interrupted } from '../clock.js';
import type { SimulatorContext } from '../context.js';
import type { FiredFaults } from '../faults.js';
import type { HoldPoint } from '../hold.js';
import type { JournalEntry } from '../journal.js';
import { SimProcess } from '../process.js';
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

const KEPT_PER_NODE = 1_000;
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

/** Starts and keeps worker tasks; there is no queue, every task runs at once. */
export class TaskEngine {
  readonly #byNode = new Map<string, RunningTask[]>();
  #nextPid = 4_000;

  constructor(private readonly context: SimulatorContext) {}

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
    const list = this.#byNode.get(setup.node) ?? [];
    list.push(task);
    if (list.length > KEPT_PER_NODE) {
      const oldest = list.findIndex((old) => old.exitStatus !== undefined);
      if (oldest >= 0) list.splice(oldest, 1);
    }
    this.#byNode.set(setup.node, list);
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
      if (forced !== undefined) throw new TaskFailure(forced);
      const { warnings = 0, ...journal } = await work(task);
      more = journal;
      task.did(() => journal);
      await task.pass('task-end');
      const late = await faults.task('after', task.signal);
      if (late !== undefined) throw new TaskFailure(late, journal);
      const count = warnings + (faults.own('warn')?.count ?? 0);
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
    this.context.journal.record({
      effect: false,
      ...lineOf(this.context, setup, task),
      ...more,
      ...(setup.faults.ids === undefined ? {} : { fault: setup.faults.ids }),
      event: 'task-end',
      params: { type: setup.type, ...more.params, verdict: task.exitStatus },
    });
  }

  /** Newest first. */
  ofNode(node: string): readonly Task[] {
    return [...(this.#byNode.get(node) ?? [])].reverse();
  }

  find(node: string, upid: string): Task | undefined {
    return this.#byNode.get(node)?.find((task) => task.upid === upid);
  }

  /** TERM, and KILL if it is still there 5 s later. */
  interrupt(task: Task): void {
    const found = this.#byNode.get(task.node)?.find((one) => one === task);
    found?.stopper.abort();
    this.context.clock.after(KILL_AFTER_MS, () => found?.process.kill());
  }

  /**
   * KILL: nothing of it goes on, no clean-up runs and its log ends without a verdict. Its flocks are free at once, its cluster locks
   * when they are 120 s old, the `lock` key stays in the config.
   */
  kill(upid: string): void {
    for (const list of this.#byNode.values()) list.find((task) => task.upid === upid)?.process.kill();
  }

  /** The node died: all that it ran is killed. What its log says is there again when the node is. */
  nodeDown(node: string): void {
    for (const task of this.#byNode.get(node) ?? []) task.process.kill();
  }

  /** The node's task logs are gone (rotated away, node installed anew): `no such task` from now on. What runs goes on. */
  forget(node: string): void {
    this.#byNode.delete(node);
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
