import { setTimeout as sleep } from 'node:timers/promises';
import { Queue, Worker } from 'bullmq';
import type { Cluster, Redis } from 'ioredis';
import type { Dispatch, DispatchItem } from '../../ports/dispatch.js';

export const STEP_QUEUE = 'steps';
/** How long an end may wait for Redis. What could not be told is found in Postgres. */
const CLOSE_MS = 1_000;
/** After a refusal that is not a lost connection, e.g. of a server that has just become a replica. */
const RETRY_MS = 1_000;

/** How long a worker that took a job may need to claim its step. */
const CLAIM_MS = 3_000;
const WAITING: ReadonlySet<string> = new Set(['waiting', 'prioritized', 'delayed']);

/** Ids only: the truth is in Postgres. The dispatch number makes each hand-over a new job; finished jobs vanish at once. */
interface StepJob {
  readonly stepId: string;
}

const jobId = (item: DispatchItem): string => `${item.stepId}-${item.number}`;

/** The queue as the relay sees it. `connection` becomes its own. */
export class BullDispatch implements Dispatch {
  readonly queue: Queue<StepJob>;

  constructor(
    private readonly connection: Redis | Cluster,
    prefix: string,
    onError: (error: Error) => void,
  ) {
    this.queue = new Queue<StepJob>(STEP_QUEUE, { connection, prefix });
    this.queue.on('error', onError);
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

  /** A job that waits is known, and one that was just taken. One that is active for longer though nobody claimed its step was taken by a worker that died before the claim. */
  async missing(items: readonly DispatchItem[]): Promise<readonly DispatchItem[]> {
    const known = await Promise.all(items.map((item) => this.isKnown(jobId(item))));
    return items.filter((_, index) => !known[index]);
  }

  private async isKnown(id: string): Promise<boolean> {
    const state = await this.queue.getJobState(id);
    if (state !== 'active') return WAITING.has(state);
    const takenAt = (await this.queue.getJob(id))?.processedOn ?? 0;
    return Date.now() - takenAt < CLAIM_MS;
  }

  async close(): Promise<void> {
    await Promise.race([this.queue.close(), sleep(CLOSE_MS, undefined, { ref: false })]);
    this.connection.disconnect();
  }
}

/** Takes step ids from the queue. `connection` becomes its own. Stalled-job recovery is off: a dead worker is found by its lease in Postgres. */
export class BullStepWorker {
  private readonly worker: Worker<StepJob>;

  constructor(
    private readonly connection: Redis | Cluster,
    options: { prefix: string; concurrency: number; onError: (error: Error) => void },
    handle: (stepId: string) => Promise<void>,
  ) {
    this.worker = new Worker<StepJob>(STEP_QUEUE, (job) => handle(job.data.stepId), {
      connection,
      prefix: options.prefix,
      concurrency: options.concurrency,
      skipStalledCheck: true,
      runRetryDelay: RETRY_MS,
    });
    this.worker.on('error', options.onError);
    this.worker.on('failed', (_job, error) => options.onError(error));
  }

  async ready(): Promise<void> {
    await this.worker.waitUntilReady();
  }

  /** Takes no new jobs; gives those in hand the time to end. */
  async pause(): Promise<void> {
    await this.worker.pause(true);
  }

  async close(): Promise<void> {
    await Promise.race([this.worker.close(), sleep(CLOSE_MS, undefined, { ref: false })]);
    this.connection.disconnect();
  }
}
