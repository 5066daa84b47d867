import type { JournalLine } from '../../src/simulators/journal.js';
import type { CompiledPlan } from '../../src/plan/compiled-plan.js';
import { compileWorkflow } from '../../src/plan/workflow.js';
import { STEPS } from '../../src/steps/index.js';
import { loseWorker, type Loss, type Moment } from './lose-worker.js';
import { undoOf, type StepWorld, type TestMachine } from './step-world.js';
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
  /** How the attempts of the step ended, in their order: `act lost`, `undo done`. */
  readonly attempts: readonly string[];
}

export interface StepRecord {
  readonly doing: Doing;
  /** All that the steps before it make, and all that a machine of this workflow makes, when nothing goes wrong. */
  readonly before: readonly string[];
  readonly usual: readonly string[];
  /** Its worker fell silent after a write: one machine for each write of the step. */
  readonly crashed: readonly Ending[];
  /** Deleted, and the worker of the undo fell silent after a write: one machine for each write of the undo. */
  readonly deleted: readonly Ending[];
  /** All that making and removing a machine writes when nothing goes wrong. */
  readonly whole: readonly string[];
  /** Given up right after the step. */
  readonly undone: Ending;
  /** The same, after a foreign hand took away all that was made. */
  readonly removed: Ending;
  /** Its worker fell silent when the intent was saved and nothing was sent: then, and after it was given up. */
  readonly intended: Ending;
  readonly unmade: Ending;
}

/** By step. */
type Endings = ReadonlyMap<string, readonly Ending[]>;

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

/** What a machine was seen to do that nothing happened to but that each commit was lost once. */
interface Probe {
  readonly doings: ReadonlyMap<string, Doing>;
  /** What the undo of each step wrote, newest step first; steps without effects are missing. */
  readonly undoings: ReadonlyMap<string, readonly JournalLine[]>;
}

/**
 * Puts every step of the registry through the same fates, all of them side by side on one world, and records what came of it.
 * Nothing here knows a step: what it writes is read from the journal of a machine that nothing happened to.
 */
export class StepContract {
  readonly #places: ReadonlyMap<string, Place>;
  readonly #probes = new Map<string, Probe>();
  /** The journal when the probes were through. */
  #seen: readonly JournalLine[] = [];

  constructor(private readonly world: StepWorld) {
    this.#places = placesOf(world);
  }

  async run(): Promise<ReadonlyMap<string, StepRecord>> {
    const { world } = this;
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
    // Those for later rounds are on their way: their requests would pass for the lost ones.
    for (const { machine, key } of later.flat()) await world.kept(machine, key);
    const intents = unmade.map(({ machine, key }): Loss => ({ machine, step: key, at: { point: 'K2' } }));
    let intended: Endings = new Map();
    await loseWorker(world, intents, async () => {
      intended = await this.#endings(unmade);
    });
    await this.#cancel(unmade);
    for (const [nth, cells] of [first, ...later].entries())
      for (const some of inTurns(this.#inMaking(cells, nth))) await loseWorker(world, some);
    const crashed = [first, ...later].flat();
    const ready = await this.#endings(crashed);
    const deleted = await this.#deleteAll(crashed);
    const given = {
      undone: await this.#endings(undone),
      removed: await this.#endings(removed, cameAt),
      intended,
      unmade: await this.#endings(unmade),
    };
    const records = new Map<string, StepRecord>();
    for (const [id, { blueprint, plan, key }] of this.#places) {
      const { doings, undoings } = this.#probes.get(blueprint)!;
      const madeBy = (keys: Iterable<string>): string[] =>
        kindsOf([...keys].flatMap((one) => doings.get(one)!.first.writes));
      const one = (name: keyof typeof given): Ending => given[name].get(id)![0]!;
      records.set(id, {
        doing: doings.get(key)!,
        before: madeBy(needsOf(plan, key)),
        usual: madeBy(doings.keys()),
        crashed: ready.get(id)!,
        deleted: deleted.get(id) ?? [],
        whole: kindsOf([
          ...[...doings.values()].flatMap((doing) => doing.first.writes),
          ...[...undoings.values()].flat(),
        ]),
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
    this.#seen = this.world.journal();
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
    return { doings, undoings: await this.#undoings(machine) };
  }

  async #undoings(machine: TestMachine): Promise<ReadonlyMap<string, readonly JournalLine[]>> {
    const { world } = this;
    const undoings = new Map<string, readonly JournalLine[]>();
    await world.deleteKept(machine);
    for (let key = await world.nextUndo(machine); key !== undefined; key = await world.nextUndo(machine)) {
      const since = world.now();
      await world.open(machine, [undoOf(key)]);
      await world.stepIs('undone', machine, key);
      undoings.set(key, writesFor(world.journal(since), machine, await world.vmid(machine)));
    }
    return undoings;
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

  #inMaking(cells: readonly Cell[], nth: number): Loss[] {
    return cells.map(({ id, key, machine }) => ({
      machine,
      step: key,
      at: this.#moments(id)[nth]!,
      end: 'done',
    }));
  }

  /** Every undo loses its worker after one of its writes, on a ready machine of its own; what is left over is simply deleted. */
  async #deleteAll(ready: readonly Cell[]): Promise<Endings> {
    const { world } = this;
    const spare = ready.map((cell) => ({ ...cell, blueprint: this.#places.get(cell.id)!.blueprint }));
    const cells: Cell[] = [];
    const rounds: Loss[][] = [];
    for (const [id, { blueprint, key }] of this.#places)
      for (const [nth, answerOf] of this.#undoOps(id).entries()) {
        const at = spare.findIndex((one) => one.blueprint === blueprint);
        const machine = at < 0 ? await this.#ready(blueprint) : spare.splice(at, 1)[0]!.machine;
        cells.push({ id, key, machine });
        const loss: Loss = { machine, step: undoOf(key), at: { answerOf }, end: 'cancelled' };
        (rounds[nth] ??= []).push(loss);
        await world.deleteKept(machine);
        const others = [...this.#probes.get(blueprint)!.undoings.keys()].filter((other) => other !== key);
        await world.open(machine, others.map(undoOf));
      }
    await world.remove(spare.map(({ machine }) => machine));
    for (const { machine, step } of rounds.flat()) await world.kept(machine, step);
    for (const some of rounds.flatMap(inTurns)) await loseWorker(world, some);
    return this.#endings(cells);
  }

  async #ready(blueprint: string): Promise<TestMachine> {
    const machine = await this.world.create(blueprint);
    await this.world.open(machine);
    await this.world.runsAre('done', [machine]);
    return machine;
  }

  /** After each write of the step, as the probe's journal names them; a step that writes nothing is lost before its commit. */
  #moments(id: string): readonly Moment[] {
    const { blueprint, key } = this.#places.get(id)!;
    const ops = this.#opsOf(this.#probes.get(blueprint)!.doings.get(key)!.first.writes);
    return ops.length === 0 ? [{ point: 'K9' }] : ops.map((answerOf) => ({ answerOf }));
  }

  #undoOps(id: string): readonly string[] {
    const { blueprint, key } = this.#places.get(id)!;
    return this.#opsOf(this.#probes.get(blueprint)!.undoings.get(key) ?? []);
  }

  #opsOf(writes: readonly JournalLine[]): readonly string[] {
    return [...new Set(writes.map((line) => holdOf(line, this.#seen)))];
  }

  /** By step, in the order of the cells. */
  async #endings(cells: readonly Cell[], since?: bigint): Promise<Endings> {
    const { world } = this;
    const lines = world.journal(since);
    const endings = new Map<string, Ending[]>();
    for (const { id, key, machine } of cells) {
      const vmid = await world.vmid(machine);
      const attempts = await world.query<{ outcome: string }>(
        'select kind || $3 || outcome as outcome from attempts a join steps s on s.id = a.step_id where s.run_id = $1 and s.key = $2 order by a.epoch',
        [machine.runId, key, ' '],
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

/** Workers give an answer that is held up after a few seconds: no more of them than come to stand within that time. */
const AT_ONCE = 6;

const inTurns = (losses: readonly Loss[]): readonly (readonly Loss[])[] =>
  Array.from({ length: Math.ceil(losses.length / AT_ONCE) }, (_, turn) =>
    losses.slice(turn * AT_ONCE, (turn + 1) * AT_ONCE),
  );

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
