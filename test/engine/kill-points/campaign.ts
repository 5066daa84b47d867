import { checkJournal } from '../../../src/simulators/journal/check.js';
import type { JournalVerdict } from '../../../src/simulators/journal/verdict.js';
import type { HoldPoint } from '../../../src/simulators/hold.js';
import type { JournalLine } from '../../../src/simulators/journal.js';
import { judged } from '../../support/judged.js';
import { inTime } from '../../support/lose-worker.js';
import { SteeredWorker } from '../../support/steered-worker.js';
import { StepWorld, undoOf, type TestMachine } from '../../support/step-world.js';
import { holdOf, kindsOf, thingsOf, writesFor } from '../../support/things-outside.js';
import type { Cell, Matrix } from './cells.js';

/** A worker has three writes to a node under way at most, and each cell stops one: they are dealt out. */
const WRITES_OF_A_WORKER = 3;
/** So many machines at once keep real processors busy: locks of the simulated cluster must not time out over that. */
const TIME_SCALE = 0.02;
const LIMITS = { clonesPerStorage: 3, destroysPerCluster: 2 };
/** Each accept reads and writes; a few at once keep both sides busy. */
const CREATES_AT_ONCE = 4;

/** How attempts end that did not come as far as their point: the guest was still booting, the crowded worker let its lease run out. */
const BEFORE_ITS_POINT = ['waiting', 'handed-over'];

/** What became of one cell. */
export interface CellRecord {
  /** The worker stood where it was to be lost, with the step in hand. */
  readonly landed: boolean;
  readonly run: string;
  /** Attempts of the step, or of its undo, from the one that stood at the point: how each ended. */
  readonly attempts: readonly string[];
  readonly deaths: number;
  /** What the lost worker said when it was awake again. */
  readonly refusals: readonly string[];
  /** Kinds of all that was written for the machine so far: when all were ready, or all were gone. */
  readonly writes: readonly string[];
  readonly left: readonly string[];
}

/** Of the machines of one workflow. */
export interface MatrixOutcome {
  /** All that making a machine, and making and removing it, writes when nothing goes wrong. */
  readonly usual: readonly string[];
  readonly usualWhole: readonly string[];
  /** Under which names the simulators know these writes. */
  readonly heldOps: { readonly made: readonly string[]; readonly undone: readonly string[] };
  readonly cells: ReadonlyMap<Cell, CellRecord>;
}

export interface Outcome {
  readonly of: ReadonlyMap<Matrix, MatrixOutcome>;
  /** When every machine was ready again, and when everything was deleted. */
  readonly ready: JournalVerdict;
  readonly deleted: JournalVerdict;
}

interface Gate {
  readonly op: string;
  readonly where: HoldPoint;
  count: number;
}

interface Placed {
  readonly matrix: Matrix;
  readonly cell: Cell;
  readonly machine: TestMachine;
}

interface InHand extends Placed {
  readonly worker: SteeredWorker;
}

/**
 * The matrices of one way to lose a worker. Every cell is a machine; a few workers take the steps of all of them, each stands still at its
 * point, and then the workers are killed, or suspended for longer than their lease, with all of that in hand. The same again with the undo.
 * A round is of workflows that share no request: what is stopped on the other side stops whoever comes by.
 */
export async function loseAtEveryPoint(
  way: 'crash' | 'pause',
  rounds: readonly (readonly Matrix[])[],
): Promise<Outcome> {
  const world = await StepWorld.start({
    site: { timeScale: TIME_SCALE, cluster: { limits: LIMITS } },
  });
  try {
    return await new Campaign(world, way).run(rounds);
  } finally {
    await world.close();
  }
}

/** The machines of one workflow. */
interface Fleet {
  readonly matrix: Matrix;
  /** Nothing happens to it. */
  readonly control: TestMachine;
  readonly forward: readonly Placed[];
}

interface Made {
  readonly usual: readonly string[];
  readonly ops: readonly string[];
}

class Campaign {
  readonly #records = new Map<Cell, CellRecord>();

  constructor(
    private readonly world: StepWorld,
    private readonly way: 'crash' | 'pause',
  ) {}

  async run(rounds: readonly (readonly Matrix[])[]): Promise<Outcome> {
    const { world } = this;
    const fleets: Fleet[] = [];
    const made = new Map<Matrix, Made>();
    for (const round of rounds) {
      const here = await Promise.all(round.map((matrix) => this.#prepare(matrix)));
      for (const { matrix, control } of here) {
        await world.runsAre('done', [control]);
        made.set(matrix, { usual: await this.#writes(control), ops: await this.#ops(control) });
      }
      const placed = here.flatMap(({ forward }) => forward);
      await this.#lose(placed, async () => {
        for (const { machine } of placed) await world.open(machine);
        await world.runsAre('done', machinesOf(placed));
      });
      fleets.push(...here);
    }
    const forward = fleets.flatMap((fleet) => fleet.forward);
    const controls = fleets.map(({ control }) => control);
    const ready = await judged(world, [...controls, ...machinesOf(forward)], {
      minimumGuests: forward.length,
    });

    const undos = fleets.flatMap((fleet) => {
      const spare = machinesOf(fleet.forward);
      return fleet.matrix.back.map((cell): Placed => ({ ...fleet, cell, machine: spare.pop()! }));
    });
    for (const { cell, machine, matrix } of undos) {
      await world.deleteKept(machine);
      await world.open(machine, matrix.steps.filter((step) => step !== cell.step).map(undoOf));
    }
    await this.#lose(undos, async () => {
      for (const { machine } of undos) await world.open(machine);
      await world.runsAre('cancelled', machinesOf(undos));
    });
    const given = new Set(machinesOf(undos));
    await world.remove([...controls, ...machinesOf(forward).filter((machine) => !given.has(machine))]);
    const deleted = await checkJournal(this.#journalFile, { expectNothingLeft: true });
    const of = new Map<Matrix, MatrixOutcome>();
    for (const { matrix, control } of fleets) {
      const { usual, ops } = made.get(matrix)!;
      const undone = (await this.#ops(control)).slice(ops.length);
      of.set(matrix, {
        usual,
        usualWhole: await this.#writes(control),
        heldOps: { made: ops.toSorted(), undone: undone.toSorted() },
        cells: this.#records,
      });
    }
    return { of, ready, deleted };
  }

  /** A machine for each cell, every step before the cell's on its way. */
  async #prepare(matrix: Matrix): Promise<Fleet> {
    const { world } = this;
    const control = await this.#create(matrix);
    await world.open(control);
    const forward = await this.#place(matrix);
    for (const { cell, machine } of forward) await world.open(machine, matrix.needsOf(cell.step));
    return { matrix, control, forward };
  }

  /** Workers stand at all these cells at once, and are lost together. `others` = the rest of the deployment goes on. */
  async #lose(placed: readonly Placed[], others: () => Promise<void>): Promise<void> {
    const { world } = this;
    const inHand = await dealt(placed, () => SteeredWorker.start(world));
    const workers = [...new Set(inHand.map(({ worker }) => worker))];
    const gates = new Map<string, Gate>();
    const landed = new Set<Cell>();
    try {
      const needsSource = inHand.filter(({ cell, matrix }) => matrix.isContainerClone(cell));
      await Promise.all(inHand.filter((one) => !needsSource.includes(one)).map((one) => this.#stand(one)));
      // A copy of a template makes one clone at a time: when all others are made, and one after the other.
      for (const one of needsSource) await this.#stand(one);
      await Promise.all(
        chainsOf(inHand).map(async (chain) => {
          for (const one of chain) await this.#send(one, one.cell.hold!, gates);
        }),
      );
      await world.until('every cell is in hand', async () => {
        landed.clear();
        for (const one of inHand) if (await this.#isHeld(one)) landed.add(one.cell);
        return landed.size === inHand.length;
      });
      if (this.way === 'crash') await Promise.all(workers.map((worker) => worker.kill()));
      else for (const worker of workers) worker.suspend();
      this.#releaseAll(gates);
      await others();
      if (this.way === 'pause') await Promise.all(workers.map((worker) => worker.resume()));
    } finally {
      this.#releaseAll(gates);
      await Promise.all(workers.map((worker) => worker.kill()));
    }
    const lines = world.journal();
    for (const one of inHand)
      this.#records.set(one.cell, await this.#record(one, landed.has(one.cell), lines));
  }

  /** At its point, or where an attempt last stands before its requests. */
  async #stand({ cell, machine, worker }: InHand): Promise<void> {
    const at = cell.hold ? beforeAct(cell) : cell.point!;
    const stands = worker.stands(at.name, machine.runId, cell.step, { nth: at.nth });
    await this.world.give(machine, stepOf(cell), (id) => worker.take(id));
    await inTime(cell.title, stands);
  }

  /** On, to where the other side stops it. */
  async #send(
    { cell, machine, worker }: InHand,
    { op, where }: NonNullable<Cell['hold']>,
    gates: Map<string, Gate>,
  ): Promise<void> {
    const { holds } = this.world.site.simulators.context;
    const gate = gates.get(`${op}@${where}`) ?? { op, where, count: 0 };
    gate.count += 1;
    gates.set(`${op}@${where}`, gate);
    holds.hold(op, where);
    const arriving = [holds.reached(op, where, gate.count)];
    if (cell.point) arriving.push(worker.stands(cell.point.name, machine.runId, cell.step));
    worker.goOn(beforeAct(cell).name, machine.runId, cell.step);
    await inTime(cell.title, Promise.all(arriving));
  }

  #releaseAll(gates: ReadonlyMap<string, Gate>): void {
    for (const { op, where } of gates.values()) this.world.site.simulators.context.holds.release(op, where);
  }

  /** The worker has this very attempt in hand; at K7 it was written down a moment ago. */
  async #isHeld({ cell, machine }: Placed): Promise<boolean> {
    const { state, held } = await this.world.one<{ state: string; held: boolean }>(
      'select state, worker_id is not null as held from steps where run_id = $1 and key = $2',
      [machine.runId, cell.step],
    );
    return cell.of === 'K7' ? state === 'done' : held;
  }

  async #record(
    { cell, machine, worker }: InHand,
    landed: boolean,
    lines: readonly JournalLine[],
  ): Promise<CellRecord> {
    const { world } = this;
    const attempts = await world.query<{ outcome: string }>(
      `select outcome from attempts a join steps s on s.id = a.step_id
        where s.run_id = $1 and s.key = $2 and a.kind = $3 and outcome <> all ($4) order by a.epoch`,
      [machine.runId, cell.step, cell.isUndo ? 'undo' : 'act', BEFORE_ITS_POINT],
    );
    const { deaths } = await world.one<{ deaths: number }>('select deaths from runs where id = $1', [
      machine.runId,
    ]);
    return {
      landed,
      run: await world.runState(machine),
      attempts: attempts.map(({ outcome }) => outcome),
      deaths,
      refusals: worker.refusals(machine.runId, cell.step),
      writes: kindsOf(writesFor(lines, machine, await world.vmid(machine))),
      left: cell.isUndo ? thingsOf(world.site, machine, await world.vmid(machine)) : [],
    };
  }

  async #writes(machine: TestMachine): Promise<readonly string[]> {
    return kindsOf(writesFor(this.world.journal(), machine, await this.world.vmid(machine)));
  }

  /** The names by which its writes can be held, in their order; what changed in several parts has one. */
  async #ops(machine: TestMachine): Promise<string[]> {
    const lines = this.world.journal();
    const ops = writesFor(lines, machine, await this.world.vmid(machine)).map((line) => ({
      op: holdOf(line, lines),
      ns: line.ns,
    }));
    return ops.filter(({ ns }, index) => ops.findIndex((one) => one.ns === ns) === index).map(({ op }) => op);
  }

  get #journalFile(): string {
    return this.world.site.simulators.context.journal.file;
  }

  async #place(matrix: Matrix): Promise<Placed[]> {
    const cells = matrix.forward;
    const machines: TestMachine[] = [];
    const waiting = [...cells.keys()];
    const placeNext = async (): Promise<void> => {
      for (let at = waiting.shift(); at !== undefined; at = waiting.shift())
        machines[at] = await this.#create(matrix);
    };
    await Promise.all(Array.from({ length: CREATES_AT_ONCE }, placeNext));
    await this.#partSources(matrix, machines);
    return cells.map((cell, at) => ({ matrix, cell, machine: machines[at]! }));
  }

  /** Deals the machines anew, so that no two clones of containers that are stopped have the same copy of the template. */
  async #partSources(matrix: Matrix, machines: TestMachine[]): Promise<void> {
    const rows = await this.world.query<{ id: string; source: string }>(
      `select id, inputs #>> '{machine,template,vmid}' as source from runs where id = any ($1::uuid[])`,
      [machines.map(({ runId }) => runId)],
    );
    const sources = new Map(rows.map(({ id, source }) => [id, source]));
    const taken = new Set<string>();
    for (const [at, cell] of matrix.forward.entries()) {
      if (!matrix.isContainerClone(cell) || cell.hold === undefined) continue;
      const other = machines.findIndex((one, from) => from >= at && !taken.has(sources.get(one.runId)!));
      [machines[at], machines[other]] = [machines[other]!, machines[at]!];
      taken.add(sources.get(machines[at].runId)!);
    }
  }

  #create({ deeds }: Matrix): Promise<TestMachine> {
    return this.world.create(deeds.blueprint);
  }
}

/** Where the attempt of a cell last stands before its requests. */
const beforeAct = ({ isUndo }: Cell): NonNullable<Cell['point']> => ({ name: isUndo ? 'K8' : 'K2' });

const stepOf = (cell: Cell): string => (cell.isUndo ? undoOf(cell.step) : cell.step);

const machinesOf = (placed: readonly Placed[]): TestMachine[] => placed.map(({ machine }) => machine);

/** Among as many workers as it takes that none is stopped in more writes than it may have under way. */
async function dealt(
  placed: readonly Placed[],
  start: () => Promise<SteeredWorker>,
): Promise<readonly InHand[]> {
  const isWrite = ({ matrix, cell: { hold } }: Placed): boolean =>
    hold !== undefined &&
    /^(qemu|lxc)\./.test(hold.op) &&
    ['before', 'after'].includes(hold.where) &&
    !Object.values(matrix.deeds.reads).includes(hold.op);
  const count = Math.ceil(placed.filter(isWrite).length / WRITES_OF_A_WORKER);
  const workers = await Promise.all(Array.from({ length: count }, start));
  const turns = { writes: 0, others: 0 };
  return placed.map((one) => {
    const turn = isWrite(one) ? (turns.writes += 1) : (turns.others += 1);
    return { ...one, worker: workers[turn % count]! };
  });
}

const FURTHEST_FIRST: readonly HoldPoint[] = ['task-end', 'task', 'task-start', 'after', 'before'];

/** Whose requests are stopped, in lines that have no request in common. What is held stops whoever comes by: the last request of a machine comes first. */
function chainsOf(inHand: readonly InHand[]): readonly (readonly InHand[])[] {
  const chains = new Map<string, InHand[]>();
  for (const one of inHand) {
    const { hold, step } = one.cell;
    if (hold === undefined) continue;
    const key = hold.op.startsWith('ssh.') ? 'ssh' : `${one.matrix.name} ${step}`;
    chains.set(key, [...(chains.get(key) ?? []), one]);
  }
  const place = ({ matrix, cell: { hold } }: InHand): number =>
    -10 * matrix.orderOf(hold!.op) + FURTHEST_FIRST.indexOf(hold!.where);
  return [...chains.values()].map((chain) => chain.toSorted((a, b) => place(a) - place(b)));
}
