import { Injectable, type MessageEvent } from '@nestjs/common';
import { Observable, type Subscriber } from 'rxjs';
import { HatcheryError } from '../../core/errors.js';
import type { SignedIn } from '../auth/access.js';
import { Accounts } from '../auth/accounts.js';
import { BatchProgressReads, type BatchProgress } from './batch-progress.js';
import { EventHub, type HubMessage } from './event-hub.js';
import { EventLog, isAfter, type LoggedEvent, type Place } from './event-log.js';

const HEARTBEAT_MS = 15_000;
const PAGE = 500;
/** Messages that wait while the past is read; more means that the client is better off connecting again. */
const MAX_WAITING = 20_000;
/** An answer that is still wanted begins at once. */
const UNCLAIMED_MS = 5_000;
/** Tabs and terminals of one person at one process. */
const STREAMS_OF_ONE = 30;
/** Text that may wait for a client that does not read; then it is dropped and comes back with Last-Event-ID. */
export const MAX_PENDING_CHARACTERS = 1_000_000;

export interface StreamRequest {
  readonly user: SignedIn;
  /** One batch, which the user may see; `undefined` = everything that the user may see. */
  readonly batch: string | undefined;
  /** Id of the last event that the client has; `undefined` = from now on. */
  readonly after: number | undefined;
}

/** Keeps messages until somebody reads them; too many, and the reader is told that it lost some. */
class Inbox {
  private waiting: HubMessage[] = [];
  private isFull = false;
  private read: ((messages: readonly HubMessage[]) => void) | undefined;

  put(messages: readonly HubMessage[]): void {
    if (this.read) this.read(messages);
    else if (this.waiting.length + messages.length <= MAX_WAITING) this.waiting.push(...messages);
    else this.isFull = true;
  }

  open(read: (messages: readonly HubMessage[]) => void, lost: () => void): void {
    if (this.isFull) return lost();
    this.read = read;
    read(this.waiting.splice(0));
  }
}

/** Past and present of the events for one client, in one order, each once. */
@Injectable()
export class EventStream {
  private readonly places = new Map<string, Set<symbol>>();

  constructor(
    private readonly hub: EventHub,
    private readonly log: EventLog,
    private readonly progress: BatchProgressReads,
    private readonly accounts: Accounts,
  ) {}

  /**
   * Listens before the answer begins, so a client that sees the headers misses nothing that happens from then on.
   * Errors: `request-invalid` for an unknown `after`, `too-many-requests` for a person with too many streams.
   */
  async open(request: StreamRequest): Promise<Observable<MessageEvent>> {
    const giveBack = this.takePlace(request.user);
    try {
      const from = request.after === undefined ? undefined : await this.log.placeOf(request.after);
      const inbox = new Inbox();
      const { place, leave } = await this.hub.join((messages) => inbox.put(messages));
      const end = (): void => {
        leave();
        giveBack();
      };
      // A client that is gone by now is never subscribed to what is returned.
      const unclaimed = setTimeout(end, UNCLAIMED_MS);
      return new Observable<MessageEvent>((client) => {
        clearTimeout(unclaimed);
        const closing = new AbortController();
        const heart = setInterval(() => void this.beat(request, client), HEARTBEAT_MS);
        this.run(request, { from, place }, inbox, client, closing.signal).catch((error: unknown) =>
          client.error(error),
        );
        return () => {
          clearInterval(heart);
          end();
          closing.abort();
        };
      });
    } catch (error) {
      giveBack();
      throw error;
    }
  }

  /** One of the streams that a person may have; gives the way to give it back, once. */
  private takePlace({ userId }: SignedIn): () => void {
    const taken = this.places.get(userId) ?? new Set();
    if (taken.size >= STREAMS_OF_ONE)
      throw new HatcheryError(
        'too-many-requests',
        `Unable to send events: ${STREAMS_OF_ONE} streams of yours are open`,
        { afterMs: 15_000, hint: 'Close a tab or a terminal that watches.' },
      );
    const place = Symbol('stream');
    this.places.set(userId, taken.add(place));
    return () => {
      if (taken.delete(place) && taken.size === 0) this.places.delete(userId);
    };
  }

  private async run(
    request: StreamRequest,
    { from, place }: { from: Place | undefined; place: Place },
    inbox: Inbox,
    client: Subscriber<MessageEvent>,
    closing: AbortSignal,
  ): Promise<void> {
    const sent = from ? await this.replay(request, from, client, closing) : place;
    if (request.batch !== undefined) {
      const now = (await this.progress.of([request.batch])).get(request.batch);
      if (now) client.next(progressMessage(request.batch, sent, now));
    }
    inbox.open(
      (messages) => {
        for (const message of messages) {
          if (!isMeantFor(message, request)) continue;
          if (message.kind === 'event' && !isAfter(message.event, sent)) continue;
          client.next(
            message.kind === 'event'
              ? eventMessage(message.event)
              : progressMessage(message.batch, message.at, message.progress),
          );
        }
      },
      () => client.complete(),
    );
  }

  /** Sends what happened behind `from` and gives the place that it reached. */
  private async replay(
    request: StreamRequest,
    from: Place,
    client: Subscriber<MessageEvent>,
    closing: AbortSignal,
  ): Promise<Place> {
    const owner = request.user.role === 'admin' ? undefined : request.user.userId;
    let place = from;
    while (!closing.aborted) {
      const rows = await this.log.after(place, PAGE, { batch: request.batch, owner });
      for (const row of rows) client.next(eventMessage(row));
      const last = rows.at(-1);
      if (last) place = { xid: last.xid, seq: last.seq };
      if (rows.length < PAGE) break;
    }
    return place;
  }

  /** Keeps proxies from closing a silent connection, and ends it when the token or the account has ended. */
  private async beat(request: StreamRequest, client: Subscriber<MessageEvent>): Promise<void> {
    try {
      const user = await this.accounts.byTokenId(request.user.tokenId);
      if (user?.role !== request.user.role) client.complete();
      else client.next({ comment: 'still here' });
    } catch (error) {
      client.error(error);
    }
  }
}

function isMeantFor(message: HubMessage, { user, batch }: StreamRequest): boolean {
  if (user.role !== 'admin' && message.owner !== user.userId) return false;
  return batch === undefined || (message.kind === 'event' ? message.event.batch : message.batch) === batch;
}

const eventMessage = (event: LoggedEvent): MessageEvent => ({
  id: String(event.seq),
  type: event.type,
  data: JSON.stringify({
    v: 1,
    seq: event.seq,
    at: event.at.toISOString(),
    type: event.type,
    batch: event.batch,
    machine: event.machine,
    run: event.run,
    step: event.step,
    state: event.state,
    percent: event.percent,
    code: event.code,
  }),
});

/** Carries the number of the last event that it covers: resuming behind it loses nothing. */
const progressMessage = (batch: string, at: Place, progress: BatchProgress): MessageEvent => ({
  id: String(at.seq),
  type: 'batch.progress',
  data: JSON.stringify({
    v: 1,
    seq: at.seq,
    at: new Date().toISOString(),
    type: 'batch.progress',
    batch,
    machine: null,
    run: null,
    step: null,
    state: progress.state,
    percent: progress.percent,
    code: null,
    data: { counts: progress.counts, remainingSeconds: progress.remainingSeconds },
  }),
});
