import type { Clock } from '../../ports/clock.js';
import type { BullStepWorker } from './bull-dispatch.js';

/** A worker that heard nothing for so long, though steps waited all the time, has gone deaf. */
const DEAF_MS = 30_000;

/**
 * Takes steps from the queue, and begins anew on a connection of its own when it has gone deaf: Redis was flushed, restarted or failed over in a
 * way that the client does not come back from. What is in hand goes on.
 */
export class WatchedStepWorker {
  private current: BullStepWorker;
  private heardMs: number;
  private inHand = 0;
  private isEnding = false;
  private readonly timer: NodeJS.Timeout;

  constructor(
    private readonly parts: {
      readonly open: (handle: (stepId: string) => Promise<void>) => BullStepWorker;
      readonly handle: (stepId: string) => Promise<void>;
      readonly concurrency: number;
      /** Whether a step was handed over that nobody has taken for so long. */
      readonly isWorkWaiting: (forMs: number) => Promise<boolean>;
      readonly onDeaf: () => void;
      readonly onError: (error: Error) => void;
      readonly clock: Clock;
      readonly deafMs?: number;
    },
  ) {
    this.heardMs = parts.clock.monotonicMs();
    this.current = this.open();
    this.timer = setInterval(
      () => void this.look().catch((error: unknown) => parts.onError(error as Error)),
      this.deafMs / 3,
    );
  }

  async ready(): Promise<void> {
    await this.current.ready();
  }

  /** Takes no new jobs; gives those in hand the time to end. */
  async pause(): Promise<void> {
    this.end();
    await this.current.pause();
  }

  async close(): Promise<void> {
    this.end();
    await this.current.close();
  }

  /** Begins anew if it has gone deaf. */
  private async look(): Promise<void> {
    const { clock, concurrency, isWorkWaiting, onDeaf } = this.parts;
    if (this.inHand >= concurrency || clock.monotonicMs() - this.heardMs < this.deafMs) return;
    if (!(await isWorkWaiting(this.deafMs)) || this.isEnding) return;
    onDeaf();
    const deaf = this.current;
    this.heardMs = clock.monotonicMs();
    this.current = this.open();
    await deaf.close();
  }

  private end(): void {
    this.isEnding = true;
    clearInterval(this.timer);
  }

  private open(): BullStepWorker {
    return this.parts.open(async (stepId) => {
      this.heardMs = this.parts.clock.monotonicMs();
      this.inHand += 1;
      try {
        await this.parts.handle(stepId);
      } finally {
        this.inHand -= 1;
      }
    });
  }

  private get deafMs(): number {
    return this.parts.deafMs ?? DEAF_MS;
  }
}
