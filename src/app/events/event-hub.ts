import { Inject, Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import type { WakeUps } from '../../ports/dispatch.js';
import type { AppContext } from '../context.js';
import { CONTEXT, WAKE_UPS } from '../tokens.js';
import { BatchProgressReads, type BatchProgress } from './batch-progress.js';
import { EventLog, START, type LoggedEvent, type Place } from './event-log.js';

const TICK_MS = 1000;
const PROGRESS_EVERY_MS = 500;
const ROWS_AT_ONCE = 1000;
const OWNERS_KEPT = 10_000;

/** One thing to tell clients; `owner` decides who may hear it. */
export type HubMessage =
  | { readonly kind: 'event'; readonly event: LoggedEvent; readonly owner: string | undefined }
  | {
      readonly kind: 'progress';
      readonly batch: string;
      readonly owner: string | undefined;
      readonly at: Place;
      readonly progress: BatchProgress;
    };

type Listener = (messages: readonly HubMessage[]) => void;

/** The one reader of the event log in this process: it reads each row once and tells all clients. It sleeps while there are none. */
@Injectable()
export class EventHub implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly listeners = new Set<Listener>();
  private readonly owners = new Map<string, string>();
  private readonly changed = new Set<string>();
  private position: Place = START;
  private reading: Promise<void> | undefined;
  private joining: Promise<unknown> = Promise.resolve();
  private again = false;
  private progressDueAt = 0;
  private timer: NodeJS.Timeout | undefined;
  private stopWaking: (() => void) | undefined;

  constructor(
    private readonly log: EventLog,
    private readonly progress: BatchProgressReads,
    @Inject(WAKE_UPS) private readonly wakeUps: WakeUps,
    @Inject(CONTEXT) private readonly context: AppContext,
  ) {}

  onApplicationBootstrap(): void {
    this.stopWaking = this.wakeUps.on('events', () => this.wake());
    this.timer = setInterval(() => this.wake(), TICK_MS);
    this.timer.unref();
  }

  async onApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    this.stopWaking?.();
    this.listeners.clear();
    await this.reading;
  }

  /** Tells `listener` everything behind the returned place. */
  async join(listener: Listener): Promise<{ place: Place; leave: () => void }> {
    const joined = this.joining.then(() => this.add(listener));
    this.joining = joined.then(
      () => undefined,
      () => undefined,
    );
    return { place: await joined, leave: () => this.listeners.delete(listener) };
  }

  /** One at a time: the first one after a pause moves the reader to the end of the log. */
  private async add(listener: Listener): Promise<Place> {
    if (this.listeners.size === 0) {
      await this.reading;
      this.position = await this.log.end();
    }
    this.listeners.add(listener);
    return this.position;
  }

  private wake(): void {
    if (this.listeners.size === 0) return;
    if (this.reading) {
      this.again = true;
      return;
    }
    this.reading = this.read()
      .catch((error: unknown) =>
        this.context.logger.warn({ err: error }, 'unable to read events, trying again'),
      )
      .finally(() => {
        this.reading = undefined;
        if (this.again) {
          this.again = false;
          this.wake();
        }
      });
  }

  private async read(): Promise<void> {
    for (;;) {
      const rows = await this.log.after(this.position, ROWS_AT_ONCE);
      const last = rows.at(-1);
      if (last) {
        await this.learnOwners(rows.flatMap((row) => row.batch ?? []));
        this.position = { xid: last.xid, seq: last.seq };
        this.tell(
          rows.map((event) => ({
            kind: 'event',
            event,
            owner: event.batch === null ? undefined : this.owners.get(event.batch),
          })),
        );
        for (const row of rows) if (row.batch !== null) this.changed.add(row.batch);
      }
      if (rows.length < ROWS_AT_ONCE) break;
    }
    await this.tellProgress();
  }

  private async tellProgress(): Promise<void> {
    const now = performance.now();
    if (this.changed.size === 0 || now < this.progressDueAt) return;
    this.progressDueAt = now + PROGRESS_EVERY_MS;
    const batches = [...this.changed];
    this.changed.clear();
    // The next tick brings what changes while this is asked: what is told is at least as new as its place.
    const at = this.position;
    const found = await this.progress.of(batches);
    this.tell(
      [...found].map(([batch, progress]) => ({
        kind: 'progress',
        batch,
        owner: this.owners.get(batch),
        at,
        progress,
      })),
    );
  }

  private tell(messages: readonly HubMessage[]): void {
    for (const listener of this.listeners) listener(messages);
  }

  private async learnOwners(batches: readonly string[]): Promise<void> {
    if (this.owners.size > OWNERS_KEPT) this.owners.clear();
    const unknown = [...new Set(batches)].filter((batch) => !this.owners.has(batch));
    if (unknown.length === 0) return;
    for (const { id, owner_id } of await this.log.owners(unknown)) this.owners.set(id, owner_id);
  }
}
