import { Queue, Worker, type ConnectionOptions } from 'bullmq';
import type { Dispatch, DispatchItem } from '../../ports/dispatch.js';

export const STEP_QUEUE = 'steps';

/** Ids only: the truth is in Postgres. The dispatch number makes each hand-over a new job; finished jobs vanish at once. */
interface StepJob {
  readonly stepId: string;
}

const jobId = (item: DispatchItem): string => `${item.stepId}-${item.number}`;

export class BullDispatch implements Dispatch {
  readonly queue: Queue<StepJob>;

  constructor(connection: ConnectionOptions, prefix: string) {
    this.queue = new Queue<StepJob>(STEP_QUEUE, { connection, prefix });
  }

  async send(items: readonly DispatchItem[]): Promise<void> {
    await this.queue.addBulk(
      items.map((item) => ({
        name: 'step',
        data: { stepId: item.stepId },
        opts: { jobId: jobId(item), attempts: 1, removeOnComplete: true, removeOnFail: true },
      })),
    );
  }

  /** A job that waits is known. One that is active though nobody claimed its step was taken by a worker that died before the claim. */
  async missing(items: readonly DispatchItem[]): Promise<readonly DispatchItem[]> {
    const states = await Promise.all(items.map((item) => this.queue.getJobState(jobId(item))));
    return items.filter(
      (_, index) =>
        states[index] !== 'waiting' && states[index] !== 'prioritized' && states[index] !== 'delayed',
    );
  }

  async close(): Promise<void> {
    await this.queue.close();
  }
}

/** Takes step ids from the queue. Stalled-job recovery is off: a dead worker is found by its lease in Postgres. */
export class BullStepWorker {
  private readonly worker: Worker<StepJob>;

  constructor(
    connection: ConnectionOptions,
    options: { prefix: string; concurrency: number; onError: (error: Error) => void },
    handle: (stepId: string) => Promise<void>,
  ) {
    this.worker = new Worker<StepJob>(STEP_QUEUE, (job) => handle(job.data.stepId), {
      connection,
      prefix: options.prefix,
      concurrency: options.concurrency,
      skipStalledCheck: true,
    });
    this.worker.on('error', options.onError);
  }

  async ready(): Promise<void> {
    await this.worker.waitUntilReady();
  }

  /** Takes no new jobs; gives those in hand the time to end. */
  async pause(): Promise<void> {
    await this.worker.pause(true);
  }

  async close(): Promise<void> {
    await this.worker.close();
  }
}
