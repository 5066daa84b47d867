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
  readonly run: string;
  /** Kinds of all writes for this machine, or of those since the foreign hand came. */
  readonly writes: readonly string[];
  /** What still stands for it outside. */
  readonly left: readonly string[];
  /** How the attempts of the step ended, in their order. */
  readonly attempts: readonly string[];
}

export interface StepRecord {
  readonly doing: Doing;
  /** All that the steps before it make, and all that a machine of this workflow makes, when nothing goes wrong. */
  readonly before: readonly string[];
  readonly usual: readonly string[];
  /** Its worker fell silent after a write: one machine for each write of the step. */
  readonly crashed: readonly Ending[];
  /** Those again, after they were deleted. */
  readonly deleted: readonly Ending[];
  /** Given up right after the step. */
  readonly undone: Ending;
  /** The same, after a foreign hand took away all that was made. */
  readonly removed: Ending;
  /** Its worker fell silent when the intent was saved and nothing was sent: then, and after it was given up. */
  readonly intended: Ending;
  readonly unmade: Ending;
}

interface Cell {
  readonly id: string;
  readonly key: string;
  readonly machine: TestMachine;
}

/** Where a worker falls silent: the other side has acted and its answer is on the way, or at a point of the engine. */
type Moment = { readonly answerOf: string } | { readonly point: 'K2' | 'K9' };
type Loss = Cell & { readonly at: Moment };

/** Where each step stands: the first shipped blueprint whose workflow uses it. */
interface Place {
  readonly blueprint: string;
  readonly plan: CompiledPlan;
  readonly key: string;
}

/** A machine that nothing happened to but that each commit was lost once. */
interface Probe {
  readonly machine: TestMachine;
  readonly doings: ReadonlyMap<string, Doing>;
}

/**
 * Puts every step of the registry through the same fates, all of them side by side on one world, and records what came of it.
 * Nothing here knows a step: what it writes is read from the journal of a machine that nothing happened to.
 */
export class StepContract {
  readonly #places: ReadonlyMap<string, Place>;
  readonly #probes = new Map<string, Probe>();

  constructor(private readonly world: StepWorld) {
    this.#places = placesOf(world);
  }

  async run(): Promise<ReadonlyMap<string, StepRecord>> {
    const probing = this.#probeAll();
    const unmade = await this.#upTo('before');
    const first = await this.#upTo('before');
    const undone = await this.#upTo('after');
    const removed = await this.#upTo('after');
    await probing;
    const later: Cell[][] = [];
    for (let nth = 1; later.at(-1)?.length !== 0; nth += 1)
      later.push(await this.#upTo('before', (id) => this.#moments(id).length > nth));
    await this.#done([...undone, ...removed]);
    const cameAt = await this.#takeAway(removed);
    await this.#cancel([...undone, ...removed]);
    // From here on operations are held, which stops whoever passes: nobody else may be at work.
    const after = (cells: readonly Cell[], nth: number): Loss[] =>
      cells.map((cell) => ({ ...cell, at: this.#moments(cell.id)[nth]! }));
    const intents = unmade.map((cell): Loss => ({ ...cell, at: { point: 'K2' } }));
    const intended = await this.#lose([...intents, ...after(first, 0)], () => this.#endings(unmade));
    await this.#cancel(unmade);
    for (const [index, cells] of later.entries())
      if (cells.length > 0) await this.#lose(after(cells, index + 1));
    const crashed = [first, ...later].flat();
    const ready = await this.#endings(crashed);
    await this.#removeAll(crashed);
    const deleted = await this.#endings(crashed);
    const given = {
      undone: await this.#endings(undone),
      removed: await this.#endings(removed, cameAt),
      intended,
      unmade: await this.#endings(unmade),
    };
    const records = new Map<string, StepRecord>();
    for (const [id, { blueprint, plan, key }] of this.#places) {
      const { doings } = this.#probes.get(blueprint)!;
      const madeBy = (keys: Iterable<string>): string[] =>
        kindsOf([...keys].flatMap((one) => doings.get(one)!.first.writes));
      const one = (name: keyof typeof given): Ending => given[name].get(id)![0]!;
      records.set(id, {
        doing: doings.get(key)!,
        before: madeBy(needsOf(plan, key)),
        usual: madeBy(doings.keys()),
        crashed: ready.get(id)!,
        deleted: deleted.get(id)!,
        undone: one('undone'),
        removed: one('removed'),
        intended: one('intended'),
        unmade: one('unmade'),
      });
    }
    return records;
  }

  async #probeAll(): Promise<void> {
    const plans = new Map([...this.#places.values()].map(({ blueprint, plan }) => [blueprint, plan]));
    for (const [blueprint, plan] of plans) this.#probes.set(blueprint, await this.#probe(blueprint, plan));
  }

  /** One machine, step by step, each step done once more as after a lost commit. */
  async #probe(blueprint: string, plan: CompiledPlan): Promise<Probe> {
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
      await world.loseCommit(machine, key);
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
  async #upTo(where: 'before' | 'after', isWanted = (_id: string): boolean => true): Promise<Cell[]> {
    const cells: Cell[] = [];
    for (const [id, { blueprint, plan, key }] of this.#places) {
      if (!isWanted(id)) continue;
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

  async #removeAll(cells: readonly Cell[]): Promise<void> {
    const probes = [...this.#probes.values()];
    await this.world.remove([...cells, ...probes].map((one) => one.machine));
  }

  /**
   * One worker takes all these steps and falls silent when each stands at its moment; another one goes on with those that may go on.
   * The answers come when nobody listens any more. In the end the silent worker wakes, believing that it still holds its steps.
   */
  async #lose<T>(losses: readonly Loss[], meanwhile?: () => Promise<T>): Promise<T> {
    const { world } = this;
    const { holds } = world.site.simulators.context;
    const worker = await SuspendedWorker.start(world.options);
    await Promise.all(losses.map(({ machine, key }) => world.kept(machine, key)));
    const held = new Map<string, number>();
    const arriving: Promise<void>[] = [];
    for (const { at, key, machine } of losses) {
      if ('answerOf' in at) held.set(at.answerOf, (held.get(at.answerOf) ?? 0) + 1);
      else arriving.push(arrives(`${key} at ${at.point}`, worker.stopsAt(at.point, machine.runId, key)));
    }
    for (const [op, count] of held) {
      holds.hold(op, 'after');
      arriving.push(arrives(`${count} x ${op}`, holds.reached(op, 'after', count)));
    }
    try {
      const ids = await Promise.all(
        losses.map(({ machine, key }) => world.give(machine, key, (id) => worker.take(id))),
      );
      await Promise.all(arriving);
      worker.suspend();
      const goOn = losses.filter(({ at }) => !('point' in at && at.point === 'K2'));
      for (const { machine } of goOn) await world.open(machine);
      await this.#noticed(ids);
      const seen = (await meanwhile?.()) as T;
      for (const op of held.keys()) holds.release(op, 'after');
      await world.runsAre(
        'done',
        goOn.map(({ machine }) => machine),
      );
      return seen;
    } finally {
      for (const op of held.keys()) holds.release(op, 'after');
      await worker.stop();
    }
  }

  async #noticed(stepIds: readonly string[]): Promise<void> {
    const { world } = this;
    await world.until('the lost steps are noticed', async () => {
      const { lost } = await world.one<{ lost: number }>(
        `select count(distinct step_id)::int as lost from attempts where step_id = any ($1::uuid[]) and outcome = 'lost'`,
        [stepIds],
      );
      return lost === stepIds.length;
    });
  }

  /** After each write of the step, as the probe's journal names them; a step that writes nothing is lost before its commit. */
  #moments(id: string): readonly Moment[] {
    const { blueprint, key } = this.#places.get(id)!;
    const journal = this.world.journal();
    const writes = this.#probes.get(blueprint)!.doings.get(key)!.first.writes;
    const ops = [...new Set(writes.map((line) => holdOf(line, journal)))];
    return ops.length === 0 ? [{ point: 'K9' }] : ops.map((answerOf) => ({ answerOf }));
  }

  /** By step, in the order of the cells. */
  async #endings(cells: readonly Cell[], since?: bigint): Promise<ReadonlyMap<string, readonly Ending[]>> {
    const { world } = this;
    const lines = world.journal(since);
    const endings = new Map<string, Ending[]>();
    for (const { id, key, machine } of cells) {
      const vmid = await world.vmid(machine);
      const attempts = await world.query<{ outcome: string }>(
        'select outcome from attempts a join steps s on s.id = a.step_id where s.run_id = $1 and s.key = $2 order by a.epoch',
        [machine.runId, key],
      );
      const ending = {
        run: await world.runState(machine),
        writes: kindsOf(writesFor(lines, machine, vmid)),
        left: thingsOf(world.site, machine, vmid),
        attempts: attempts.map((attempt) => attempt.outcome),
      };
      endings.set(id, [...(endings.get(id) ?? []), ending]);
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

/** Names what did not come in time, instead of hanging. */
async function arrives(what: string, work: Promise<unknown>): Promise<void> {
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
