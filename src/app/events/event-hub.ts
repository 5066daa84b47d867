import { Inject, Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import type { WakeUps } from '../../ports/dispatch.js';
import type { AppContext } from '../context.js';
import { CONTEXT, WAKE_UPS } from '../tokens.js';
import { BatchProgressReads } from './batch-progress.js';
import { EventLog, START, type Place } from './event-log.js';
import { bytesOf, eventMessage, progressMessage, type EventMessage } from './event-message.js';

const TICK_MS = 1000;
/** Between two reads of the log: what is committed meanwhile is told together, one write for each client. Nobody sees the difference. */
const READ_EVERY_MS = 50;
const PROGRESS_EVERY_MS = 500;
const ROWS_AT_ONCE = 1000;
const OWNERS_KEPT = 10_000;

/** Whose events, and of which batch; `undefined` = of all. */
export interface Rights {
  readonly owner: string | undefined;
  readonly batch: string | undefined;
}

/** Messages in their order, as text and ready to be sent: the same bytes for everybody with the same rights. */
export interface Told {
  readonly messages: readonly EventMessage[];
  readonly bytes: Buffer;
}

type Listener = (told: Told) => void;

/** Those with the same rights. */
interface Audience {
  readonly rights: Rights;
  readonly listeners: Set<Listener>;
}

/**
 * The one reader of the event log in this process: it reads each row once, writes it as text once and tells all clients. It sleeps while there are none.
 */
@Injectable()
export class EventHub implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly audiences = new Map<string, Audience>();
  private readonly owners = new Map<string, string>();
  private readonly changed = new Set<string>();
  private position: Place = START;
  private reading: Promise<void> | undefined;
  private joining: Promise<unknown> = Promise.resolve();
  private again = false;
  private progressDueAt = 0;
  private readDueAt = 0;
  private pause: NodeJS.Timeout | undefined;
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
    clearTimeout(this.pause);
    this.stopWaking?.();
    this.audiences.clear();
    await this.reading;
  }

  /** Tells `listener` everything behind the returned place that these rights let it see. */
  async join(rights: Rights, listener: Listener): Promise<{ place: Place; leave: () => void }> {
    const joined = this.joining.then(() => this.add(rights, listener));
    this.joining = joined.then(
      () => undefined,
      () => undefined,
    );
    return { place: await joined, leave: () => this.remove(rights, listener) };
  }

  /** One at a time: the first one after a pause moves the reader to the end of the log. */
  private async add(rights: Rights, listener: Listener): Promise<Place> {
    if (this.audiences.size === 0) {
      await this.reading;
      this.position = await this.log.end();
    }
    const audience = this.audiences.get(keyOf(rights)) ?? { rights, listeners: new Set() };
    audience.listeners.add(listener);
    this.audiences.set(keyOf(rights), audience);
    return this.position;
  }

  private remove(rights: Rights, listener: Listener): void {
    const audience = this.audiences.get(keyOf(rights));
    if (audience?.listeners.delete(listener) && audience.listeners.size === 0)
      this.audiences.delete(keyOf(rights));
  }

  private wake(): void {
    if (this.audiences.size === 0 || this.pause) return;
    if (this.reading) {
      this.again = true;
      return;
    }
    const waitMs = this.readDueAt - performance.now();
    if (waitMs > 0) {
      this.pause = setTimeout(() => {
        this.pause = undefined;
        this.wake();
      }, waitMs);
      return;
    }
    this.readDueAt = performance.now() + READ_EVERY_MS;
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
          rows.map((event) =>
            eventMessage(event, event.batch === null ? undefined : this.owners.get(event.batch)),
          ),
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
      [...found].map(([batch, progress]) => progressMessage(batch, at, progress, this.owners.get(batch))),
    );
  }

  private tell(all: readonly EventMessage[]): void {
    for (const { rights, listeners } of this.audiences.values()) {
      const messages = all.filter((message) => isFor(message, rights));
      if (messages.length === 0) continue;
      const told = { messages, bytes: bytesOf(messages) };
      for (const listener of listeners) listener(told);
    }
  }

  private async learnOwners(batches: readonly string[]): Promise<void> {
    if (this.owners.size > OWNERS_KEPT) this.owners.clear();
    const unknown = [...new Set(batches)].filter((batch) => !this.owners.has(batch));
    if (unknown.length === 0) return;
    for (const { id, owner_id } of await this.log.owners(unknown)) this.owners.set(id, owner_id);
  }
}

const keyOf = ({ owner, batch }: Rights): string => `${owner ?? '*'} ${batch ?? '*'}`;

const isFor = (message: EventMessage, { owner, batch }: Rights): boolean =>
  (owner === undefined || message.owner === owner) && (batch === undefined || message.batch === batch);
