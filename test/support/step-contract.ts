import type { JournalLine } from '../../src/simulators/journal.js';
import type { CompiledPlan } from '../../src/plan/compiled-plan.js';
import { compileWorkflow } from '../../src/plan/workflow.js';
import { STEPS } from '../../src/steps/index.js';
import { systemClock } from '../../src/drivers/system-clock.js';
import { SuspendedWorker } from './suspended-worker.js';
import type { StepWorld, TestMachine } from './step-world.js';
import { holdOf, kindsOf, removeByForeignHand, thingsOf, writesFor } from './things-outside.js';

/** What one execution of a step did: the lines of the journal, and the row that it left. */
interface Execution {
  readonly writes: readonly JournalLine[];
  readonly output: unknown;
}

/** A step's row, done for the first and for the second time. */
export interface Doing {
  readonly input: unknown;
  readonly first: Execution;
  readonly second: Execution;
}

/** How a machine ended whose worker was lost, or whose making was given up. */
export interface Ending {
  readonly machine: TestMachine;
  readonly run: string;
  readonly step: string;
  /** Kinds of all writes for this machine, or of those since the foreign hand came. */
  readonly writes: readonly string[];
  /** What still stands for it outside. */
  readonly left: readonly string[];
  /** How the attempts of the step ended, in their order. */
  readonly attempts: readonly string[];
}

export interface StepRecord {
  readonly doing: Doing;
  /** All that a machine of this workflow makes when nothing goes wrong. */
  readonly usual: readonly string[];
  readonly crashed: Ending;
  /** The crashed machine again, after it was deleted. */
  readonly deleted: Ending;
  readonly undone: Ending;
  readonly removed: Ending;
  /** Its worker fell silent when the intent was saved and nothing was sent: then, and after it was given up. */
  readonly intended: Ending;
  readonly unmade: Ending;
  /** All that the steps before it make. */
  readonly before: readonly string[];
}

interface Cell {
  readonly id: string;
  readonly key: string;
  readonly machine: TestMachine;
}

/** Where each step stands: the first shipped blueprint whose workflow uses it. */
interface Place {
  readonly blueprint: string;
  readonly plan: CompiledPlan;
  readonly key: string;
}

/**
 * Puts every step of the registry through the same fates, all of them side by side on one world, and records what came of it.
 * Nothing here knows a step: where it writes first is read from the journal of a machine that nothing happened to.
 */
export class StepContract {
  readonly #places: ReadonlyMap<string, Place>;

  constructor(private readonly world: StepWorld) {
    this.#places = placesOf(world);
  }

  async run(): Promise<ReadonlyMap<string, StepRecord>> {
    const { world } = this;
    const usual = new Map<string, { machine: TestMachine; doings: ReadonlyMap<string, Doing> }>();
    const blueprints = new Map([...this.#places.values()].map(({ blueprint, plan }) => [blueprint, plan]));
    const probes = Promise.all(
      [...blueprints].map(async ([blueprint, plan]) =>
        usual.set(blueprint, await this.#probe(blueprint, plan)),
      ),
    );
    const crashed = await this.#upTo('before');
    const unmade = await this.#upTo('before');
    const undone = await this.#upTo('after');
    const removed = await this.#upTo('after');
    await this.#done([...undone, ...removed]);
    const cameAt = await this.#takeAway(removed);
    await this.#cancel([...undone, ...removed]);
    await probes;

    const worker = await SuspendedWorker.start(world.options);
    let intended: ReadonlyMap<string, Ending>;
    try {
      await this.#loseWorker(worker, crashed, unmade, (id) => this.#firstHold(usual, id));
      intended = await this.#endings(unmade);
      await this.#cancel(unmade);
      await world.runsAre(
        'done',
        crashed.map((cell) => cell.machine),
      );
    } finally {
      // It goes on as if it still held its steps: what it does now is part of what is judged.
      await worker.stop();
    }
    const ready = await this.#endings(crashed);
    await world.remove([
      ...crashed.map((cell) => cell.machine),
      ...[...usual.values()].map((one) => one.machine),
    ]);

    const records = new Map<string, StepRecord>();
    const all = {
      crashed: ready,
      deleted: await this.#endings(crashed),
      undone: await this.#endings(undone),
      removed: await this.#endings(removed, cameAt),
      intended,
      unmade: await this.#endings(unmade),
    };
    for (const [id, { blueprint, plan, key }] of this.#places) {
      const { doings } = usual.get(blueprint)!;
      const madeBy = (keys: Iterable<string>): string[] =>
        kindsOf([...keys].flatMap((one) => doings.get(one)!.first.writes));
      const of = (name: keyof typeof all): Ending => all[name].get(id)!;
      records.set(id, {
        doing: doings.get(key)!,
        usual: madeBy(doings.keys()),
        before: madeBy(needsOf(plan, key)),
        crashed: of('crashed'),
        deleted: of('deleted'),
        undone: of('undone'),
        removed: of('removed'),
        intended: of('intended'),
        unmade: of('unmade'),
      });
    }
    return records;
  }

  /** One machine, step by step, each step done once more as after a lost commit. */
  async #probe(
    blueprint: string,
    plan: CompiledPlan,
  ): Promise<{ machine: TestMachine; doings: ReadonlyMap<string, Doing> }> {
    const { world } = this;
    const machine = await world.create(blueprint);
    const doings = new Map<string, Doing>();
    for (const { key } of plan.steps) {
      const since = world.now();
      await world.kept(machine, key);
      await world.open(machine, [key]);
      await world.stepIs('done', machine, key);
      const first = await this.#execution(machine, key, since);
      const again = world.now();
      await loseCommit(world, machine, key);
      await world.stepIs('done', machine, key);
      const { input } = await world.one<{ input: unknown }>(
        'select input from steps where run_id = $1 and key = $2',
        [machine.runId, key],
      );
      doings.set(key, { input, first, second: await this.#execution(machine, key, again) });
    }
    await world.runsAre('done', [machine]);
    return { machine, doings };
  }

  async #execution(machine: TestMachine, key: string, since: bigint): Promise<Execution> {
    const { output } = await this.world.one<{ output: unknown }>(
      'select output from steps where run_id = $1 and key = $2',
      [machine.runId, key],
    );
    return { output, writes: writesFor(this.world.journal(since), machine, await this.world.vmid(machine)) };
  }

  /** One machine per step, run to where the step is due, or to where it is the last one done. */
  async #upTo(where: 'before' | 'after'): Promise<Cell[]> {
    const cells: Cell[] = [];
    for (const [id, { blueprint, plan, key }] of this.#places) {
      const machine = await this.world.create(blueprint);
      await this.world.open(machine, where === 'before' ? needsOf(plan, key) : [...needsOf(plan, key), key]);
      cells.push({ id, key, machine });
    }
    return cells;
  }

  async #done(cells: readonly Cell[]): Promise<void> {
    for (const { machine, key } of cells) await this.world.stepIs('done', machine, key);
  }

  async #takeAway(cells: readonly Cell[]): Promise<bigint> {
    for (const { machine } of cells)
      removeByForeignHand(this.world.site, machine, await this.world.vmid(machine));
    return this.world.now();
  }

  async #cancel(cells: readonly Cell[]): Promise<void> {
    const { world } = this;
    for (const { machine } of cells) await world.assembly.intake.cancelBatch(machine.batch, world.admin);
    await world.runsAre(
      'cancelled',
      cells.map((cell) => cell.machine),
    );
  }

  /**
   * The crashed steps are taken up to where the other side has acted and its answer is on the way (steps that write nothing: to before their commit),
   * the unmade ones to where their intent is saved; then their worker falls silent, and the answers come when nobody listens any more.
   */
  async #loseWorker(
    worker: SuspendedWorker,
    crashed: readonly Cell[],
    unmade: readonly Cell[],
    holdOfStep: (id: string) => string | undefined,
  ): Promise<void> {
    const { world } = this;
    const { holds } = world.site.simulators.context;
    const cells = [...crashed, ...unmade];
    await Promise.all(cells.map(({ machine, key }) => world.kept(machine, key)));
    const waiting = unmade.map(({ machine, key }) =>
      reaching(`${key}: its intent`, worker.stopsAt('K2', machine.runId, key)),
    );
    const held = new Map<string, number>();
    for (const { id, key, machine } of crashed) {
      const op = holdOfStep(id);
      if (op === undefined)
        waiting.push(reaching(`${key}: its commit`, worker.stopsAt('K9', machine.runId, key)));
      else held.set(op, (held.get(op) ?? 0) + 1);
    }
    for (const [op, count] of held) {
      holds.hold(op, 'after');
      waiting.push(reaching(`${count} x ${op}`, holds.reached(op, 'after', count)));
    }
    const ids = await Promise.all(
      cells.map(({ machine, key }) => world.give(machine, key, (id) => worker.take(id))),
    );
    await Promise.all(waiting);
    worker.suspend();
    for (const { machine } of crashed) await world.open(machine);
    await world.until('the lost steps are noticed', async () => {
      const { lost } = await world.one<{ lost: number }>(
        `select count(distinct step_id)::int as lost from attempts where step_id = any ($1::uuid[]) and outcome = 'lost'`,
        [ids],
      );
      return lost === ids.length;
    });
    for (const op of held.keys()) holds.release(op, 'after');
  }

  #firstHold(
    usual: ReadonlyMap<string, { doings: ReadonlyMap<string, Doing> }>,
    id: string,
  ): string | undefined {
    const { blueprint, key } = this.#places.get(id)!;
    const first = usual.get(blueprint)?.doings.get(key)?.first.writes[0];
    return first && holdOf(first, this.world.journal());
  }

  async #endings(cells: readonly Cell[], since?: bigint): Promise<ReadonlyMap<string, Ending>> {
    const { world } = this;
    const lines = world.journal(since);
    const endings = new Map<string, Ending>();
    for (const { id, key, machine } of cells) {
      const vmid = await world.vmid(machine);
      const attempts = await world.query<{ outcome: string }>(
        'select outcome from attempts a join steps s on s.id = a.step_id where s.run_id = $1 and s.key = $2 order by a.epoch',
        [machine.runId, key],
      );
      endings.set(id, {
        machine,
        run: await world.runState(machine),
        step: await world.stepState(machine, key),
        writes: kindsOf(writesFor(lines, machine, vmid)),
        left: thingsOf(world.site, machine, vmid),
        attempts: attempts.map((attempt) => attempt.outcome),
      });
    }
    return endings;
  }
}

function placesOf(world: StepWorld): ReadonlyMap<string, Place> {
  const plans = world.config.workflowFiles.map((file) => compileWorkflow(file.path, file.text, STEPS));
  const places = new Map<string, Place>();
  for (const { name, workflow } of world.config.blueprints) {
    const plan = plans.find((one) => one.workflow === workflow);
    for (const { uses, key } of plan?.steps ?? [])
      if (plan && !places.has(uses)) places.set(uses, { blueprint: name, plan, key });
  }
  return places;
}

/** Every step that has to be done before this one is due. */
function needsOf(plan: CompiledPlan, key: string): string[] {
  const direct = plan.steps.find((step) => step.key === key)?.needs ?? [];
  return [...new Set(direct.flatMap((need) => [...needsOf(plan, need), need]))];
}

/** The commit of a done step never happened: the step is due under a new dispatch, its effects stand as intents. */
async function loseCommit(world: StepWorld, machine: TestMachine, key: string): Promise<void> {
  await world.assembly.database.transaction(async (queries) => {
    await queries.query(`update runs set state = 'running', finished_at = null where id = $1`, [
      machine.runId,
    ]);
    await queries.query(`update machines set state = 'creating', ready_at = null where id = $1`, [
      machine.id,
    ]);
    const [step] = await queries.query<{ id: string; dispatch: number }>(
      `update steps set state = 'ready', due_at = clock_timestamp(), dispatch = dispatch + 1, dispatched_at = clock_timestamp(), output = null, percent = null, finished_at = null
        where run_id = $1 and key = $2 returning id, dispatch`,
      [machine.runId, key],
    );
    await queries.query(
      `update effects set state = 'intended', confirmed_at = null where step_id = $1 and state = 'confirmed'`,
      [step!.id],
    );
    await queries.query(
      `insert into outbox (kind, payload) values ('dispatch', jsonb_build_object('stepId', $1::uuid, 'number', $2::int))`,
      [step!.id, step!.dispatch],
    );
  });
  world.assembly.parts.wakeUps.notify('outbox');
}

/** Names what did not come in time, instead of hanging. */
async function reaching(what: string, work: Promise<unknown>): Promise<void> {
  const over = new AbortController();
  const tooLate = async (): Promise<never> => {
    await systemClock.sleep(15_000, over.signal);
    throw new Error(`never reached: ${what}`);
  };
  try {
    await Promise.race([work, tooLate()]);
  } finally {
    over.abort();
  }
}
