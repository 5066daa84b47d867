import { checkJournal } from '../../../src/simulators/journal/check.js';
import type { JournalVerdict } from '../../../src/simulators/journal/verdict.js';
import type { HoldPoint } from '../../../src/simulators/hold.js';
import type { JournalLine } from '../../../src/simulators/journal.js';
import { judged } from '../../support/judged.js';
import { inTime } from '../../support/lose-worker.js';
import { SteeredWorker } from '../../support/steered-worker.js';
import { StepWorld, undoOf, type TestMachine } from '../../support/step-world.js';
import { holdOf, kindsOf, thingsOf, writesFor } from '../../support/things-outside.js';
import { forwardCells, needsOf, STEPS, undoCells, type Cell } from './cells.js';

const BLUEPRINT = 'student-desktop';
/** A worker has three writes to a node under way at most, and each cell stops one: they are dealt out. */
const WORKERS = 3;
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

export interface Outcome {
  /** All that making a machine, and making and removing it, writes when nothing goes wrong. */
  readonly usual: readonly string[];
  readonly usualWhole: readonly string[];
  /** Under which names the simulators know these writes. */
  readonly heldOps: { readonly made: readonly string[]; readonly undone: readonly string[] };
  readonly cells: ReadonlyMap<string, CellRecord>;
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
  readonly cell: Cell;
  readonly machine: TestMachine;
}

interface InHand extends Placed {
  readonly worker: SteeredWorker;
}

/**
 * The matrix of one way to lose a worker. Every cell is a machine; a few workers take the steps of all of them, each stands still at its
 * point, and then the workers are killed, or suspended for longer than their lease, with all of that in hand. The same again with the undo.
 */
export async function loseAtEveryPoint(way: 'crash' | 'pause'): Promise<Outcome> {
  const world = await StepWorld.start({
    site: { timeScale: TIME_SCALE, cluster: { limits: LIMITS } },
  });
  try {
    return await new Campaign(world, way).run();
  } finally {
    await world.close();
  }
}

class Campaign {
  readonly #records = new Map<string, CellRecord>();

  constructor(
    private readonly world: StepWorld,
    private readonly way: 'crash' | 'pause',
  ) {}

  async run(): Promise<Outcome> {
    const { world } = this;
    const control = await this.#create();
    await world.open(control);
    const forward = await this.#place(STEPS.flatMap(forwardCells));
    for (const { cell, machine } of forward) await world.open(machine, needsOf(cell.step));
    await world.runsAre('done', [control]);
    const usual = await this.#writes(control);
    const made = await this.#ops(control);

    await this.#lose(forward, async () => {
      for (const { machine } of forward) await world.open(machine);
      await world.runsAre(
        'done',
        forward.map(({ machine }) => machine),
      );
    });
    const ready = await judged(world, [control, ...forward.map(({ machine }) => machine)], {
      minimumGuests: forward.length,
    });

    const spare = forward.map(({ machine }) => machine);
    const undos = STEPS.flatMap(undoCells).map((cell): Placed => ({ cell, machine: spare.pop()! }));
    for (const { cell, machine } of undos) {
      await world.deleteKept(machine);
      await world.open(machine, STEPS.filter((step) => step !== cell.step).map(undoOf));
    }
    await this.#lose(undos, async () => {
      for (const { machine } of undos) await world.open(machine);
      await world.runsAre(
        'cancelled',
        undos.map(({ machine }) => machine),
      );
    });
    await world.remove([control, ...spare]);
    const deleted = await checkJournal(this.#journalFile, { expectNothingLeft: true });
    const undone = (await this.#ops(control)).slice(made.length);
    return {
      usual,
      usualWhole: await this.#writes(control),
      heldOps: { made: made.toSorted(), undone: undone.toSorted() },
      cells: this.#records,
      ready,
      deleted,
    };
  }

  /** Workers stand at all these cells at once, and are lost together. `others` = the rest of the deployment goes on. */
  async #lose(placed: readonly Placed[], others: () => Promise<void>): Promise<void> {
    const { world } = this;
    const workers = await Promise.all(Array.from({ length: WORKERS }, () => SteeredWorker.start(world)));
    let next = 0;
    const inHand = placed.map((one): InHand => {
      if (one.cell.hold) next += 1;
      return { ...one, worker: workers[next % WORKERS]! };
    });
    const gates = new Map<string, Gate>();
    const landed = new Set<Cell>();
    try {
      await Promise.all(inHand.map((one) => this.#stand(one)));
      await Promise.all(
        STEPS.map(async (step) => {
          // What is held stops whoever comes by, so the last request of a step is stopped first.
          for (const one of inHand.toReversed())
            if (one.cell.step === step && one.cell.hold) await this.#send(one, one.cell.hold, gates);
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
      this.#records.set(one.cell.title, await this.#record(one, landed.has(one.cell), lines));
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

  async #place(cells: readonly Cell[]): Promise<Placed[]> {
    const waiting = [...cells];
    const placed: Placed[] = [];
    const placeNext = async (): Promise<void> => {
      for (let cell = waiting.shift(); cell; cell = waiting.shift())
        placed.push({ cell, machine: await this.#create() });
    };
    await Promise.all(Array.from({ length: CREATES_AT_ONCE }, placeNext));
    return cells.map((cell) => placed.find((one) => one.cell === cell)!);
  }

  #create(): Promise<TestMachine> {
    return this.world.create(BLUEPRINT);
  }
}

/** Where the attempt of a cell last stands before its requests. */
const beforeAct = ({ isUndo }: Cell): NonNullable<Cell['point']> => ({ name: isUndo ? 'K8' : 'K2' });

const stepOf = (cell: Cell): string => (cell.isUndo ? undoOf(cell.step) : cell.step);
