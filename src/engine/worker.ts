import { AloneGate } from './alone-gate.js';
import { runAttempts } from './attempt.js';
import type { GoOn } from './claimed.js';
import { changeRun, type EngineParts } from './engine.js';
import { WorkerLease } from './lease.js';
import { runGroup } from './group-attempt.js';
import { Hands } from './hands.js';
import type { HeldStep } from '../ports/run-store.js';

/** Steps that were passed on and that one worker does side by side, besides those from the queue. */
const MOST_TAKERS = 8;

/**
 * Takes steps that the queue hands over and runs their attempts, as long as its lease holds. Where the outcome of a step makes the next one of its
 * run due, and nobody else has a say in it, the worker goes on with that at once.
 * `stop` ends in good order: attempts in hand are given back, remote tasks go on, another worker follows them.
 */
export class EngineWorker {
  readonly lease: WorkerLease;
  private readonly gate = new AloneGate();
  private readonly hands = new Hands();
  private readonly jobs = new Set<Promise<unknown>>();
  private stopListening: () => void = () => undefined;
  /** Who of ours is at steps that other builds passed on. */
  private takers = 0;
  private isStopping = false;
  private isDraining = false;

  constructor(
    private readonly parts: EngineParts,
    /** `isOneByOne`: the worker goes on with nothing, each step comes from the queue. `onDrain`: a person asks for its end. */
    private readonly options: { isOneByOne?: boolean; onDrain?: () => void } = {},
  ) {
    this.lease = new WorkerLease(
      parts.store,
      parts.clock,
      [
        ...[...parts.steps.values()].map((step) => `${step.id}@${step.version}`),
        ...[...parts.effects.keys()].map((effect) => `undo:${effect}`),
      ],
      parts.times,
      {
        onLost: (why) => parts.log.warn({ why }, 'the worker’s lease ended'),
        onHeld: (held) => void this.giveBack(held),
        onDrain: () => {
          parts.log.info({}, 'a person drains this worker: it takes no new step');
          this.isDraining = true;
          options.onDrain?.();
        },
      },
    );
  }

  async start(): Promise<void> {
    await this.lease.start();
    this.stopListening = this.parts.wakeUps.on('passed-on', () => void this.takePassedOn());
    void this.takePassedOn();
  }

  /** Steps that the queue gave to a worker of another build, which does not know them, come straight from Postgres: whoever knows them asks for more. */
  private async takePassedOn(): Promise<void> {
    if (this.takers === MOST_TAKERS) return;
    this.takers += 1;
    try {
      while (!this.isStopping && !this.isDraining) {
        const stepId = await this.parts.store.takePassedOn(this.lease.workerId);
        if (stepId === undefined) return;
        void this.takePassedOn();
        await this.handle(stepId);
      }
    } catch (error) {
      // The sweeper hands it over again.
      this.parts.log.warn({ err: error }, 'a step that was passed on could not be taken');
    } finally {
      this.takers -= 1;
    }
  }

  /** One job of the queue. Whether it was worth anything is decided by the claim, not by the queue. */
  async handle(stepId: string): Promise<void> {
    if (this.isStopping || this.isDraining) return;
    this.hands.take(stepId);
    const work = this.attempt(stepId);
    this.jobs.add(work);
    try {
      await work;
    } finally {
      this.jobs.delete(work);
      this.hands.drop(stepId);
    }
  }

  private async attempt(stepId: string): Promise<void> {
    const refused = await this.gate.together(() =>
      runAttempts(this.parts, this.lease, stepId, this.goOn(false), (leader) =>
        runGroup(this.parts, this.lease, leader, this.hands),
      ),
    );
    if (refused !== 'alone') return;
    // One worker at a time empties its hands for such a run; the others keep on working, and the sweeper offers the step again.
    const turn = await this.parts.locks.tryHold('alone', 'works on a run that killed workers');
    if (!turn) return;
    try {
      await this.gate.alone(() => runAttempts(this.parts, this.lease, stepId, this.goOn(true)));
    } finally {
      await turn.release();
    }
  }

  /** Not while it stops, nor behind a step that was done alone, nor while somebody stands in line for that, or behind one who does. */
  private goOn(isAlone: boolean): GoOn {
    const may = (): boolean =>
      !isAlone &&
      !this.isDraining &&
      !this.isStopping &&
      !this.gate.isAwaited &&
      this.options.isOneByOne !== true;
    return { hands: this.hands, isAlone, may };
  }

  /** Steps that Postgres says are ours and that nobody here works on: a claim whose answer was lost, an outcome that could not be written. */
  private async giveBack(held: readonly HeldStep[]): Promise<void> {
    const isInHand = (stepId: string): boolean => this.hands.has(stepId);
    for (const one of held.filter(({ stepId }) => !isInHand(stepId)))
      try {
        await changeRun(this.parts, one, (model) => {
          if (!model.isHeld(one) || isInHand(one.stepId)) return;
          this.parts.log.warn(
            { step: one.stepId, epoch: one.epoch },
            'a step was left behind: it is due again',
          );
          model.leftBehind(one);
        });
      } catch (error) {
        this.parts.log.warn({ step: one.stepId, err: error }, 'a step that was left behind is not due yet');
      }
  }

  /** Resolves when nothing is in hand. It is the caller's to let nothing new come. */
  async empty(): Promise<void> {
    while (this.jobs.size > 0) await Promise.allSettled(this.jobs);
  }

  async stop(): Promise<void> {
    this.isStopping = true;
    this.stopListening();
    this.lease.handOver();
    await Promise.allSettled(this.jobs);
    await this.lease.stop();
  }
}
