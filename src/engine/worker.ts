import { AloneGate } from './alone-gate.js';
import { runAttempt } from './attempt.js';
import type { EngineParts } from './engine.js';
import { WorkerLease } from './lease.js';

/**
 * Takes steps that the queue hands over and runs their attempts, as long as its lease holds.
 * `stop` ends in good order: attempts in hand are given back, remote tasks go on, another worker follows them.
 */
export class EngineWorker {
  readonly lease: WorkerLease;
  private readonly gate = new AloneGate();
  private readonly inHand = new Set<Promise<unknown>>();
  private isStopping = false;

  constructor(private readonly parts: EngineParts) {
    this.lease = new WorkerLease(
      parts.store,
      parts.clock,
      [...parts.steps.values()].map((step) => `${step.id}@${step.version}`),
      parts.times,
      (why) => parts.log.warn({ why }, 'the worker’s lease ended'),
    );
  }

  async start(): Promise<void> {
    await this.lease.start();
  }

  /** One job of the queue. Whether it was worth anything is decided by the claim, not by the queue. */
  async handle(stepId: string): Promise<void> {
    if (this.isStopping) return;
    const work = this.attempt(stepId);
    this.inHand.add(work);
    try {
      await work;
    } finally {
      this.inHand.delete(work);
    }
  }

  private async attempt(stepId: string): Promise<void> {
    const refused = await this.gate.together(() => runAttempt(this.parts, this.lease, stepId, false));
    if (refused === 'alone') await this.gate.alone(() => runAttempt(this.parts, this.lease, stepId, true));
  }

  async stop(): Promise<void> {
    this.isStopping = true;
    this.lease.handOver();
    await Promise.allSettled(this.inHand);
    await this.lease.stop();
  }
}
