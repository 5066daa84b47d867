import { Interrupted } from '../clock.js';
import type { SimulatorContext } from '../context.js';
import type { FiredFaults } from '../faults.js';
import type { HoldPoint } from '../hold.js';
import type { JournalEntry } from '../journal.js';
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
  /** A named point at which tests can stop it. */
  pass(where: HoldPoint): Promise<void>;
}

const KEPT_PER_NODE = 1_000;
const UNEXPECTED = 'unexpected status';

class RunningTask implements Task {
  readonly lines: string[] = [];
  readonly stopper = new AbortController();
  endTime: number | undefined;
  exitStatus: string | undefined;

  constructor(
    private readonly context: SimulatorContext,
    private readonly setup: TaskSetup,
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
  async pass(where: HoldPoint): Promise<void> {
    const stopped = new Promise<never>((_, reject) => {
      const stop = (): void => reject(new Interrupted('the task was stopped'));
      if (this.signal.aborted) stop();
      else this.signal.addEventListener('abort', stop, { once: true });
    });
    await Promise.race([this.context.holds.pass(this.setup.op, where), stopped]);
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
    void this.#run(setup, task, work);
    return task;
  }

  async #run(setup: TaskSetup, task: RunningTask, work: (task: Task) => Promise<TaskResult>): Promise<void> {
    let verdict = 'OK';
    let more: Partial<JournalEntry> = {};
    try {
      await task.pass('task-start');
      const forced = await setup.faults.task('during', task.signal);
      if (forced !== undefined) throw new TaskFailure(forced);
      const { warnings, ...journal } = await work(task);
      more = journal;
      await task.pass('task-end');
      const late = await setup.faults.task('after', task.signal);
      if (late !== undefined) throw new TaskFailure(late, journal);
      if (warnings !== undefined && warnings > 0) verdict = `WARNINGS: ${warnings}`;
    } catch (error) {
      if (this.context.clock.signal.aborted) return;
      if (error instanceof TaskFailure) more = error.journal;
      verdict = error instanceof Interrupted ? 'received interrupt' : messageOf(error);
    }
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

  /** TERM. */
  interrupt(task: Task): void {
    this.#byNode
      .get(task.node)
      ?.find((one) => one === task)
      ?.stopper.abort();
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
