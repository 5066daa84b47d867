import { Inject, Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import type { Response } from 'express';
import { HatcheryError } from '../../core/errors.js';
import type { SignedIn } from '../auth/access.js';
import { Accounts } from '../auth/accounts.js';
import type { AppContext } from '../context.js';
import { CONTEXT } from '../tokens.js';
import { BatchProgressReads } from './batch-progress.js';
import { EventHub, type Told } from './event-hub.js';
import { EventLog, isAfter, type Place } from './event-log.js';
import { bytesOf, eventMessage, progressMessage } from './event-message.js';
import { EventResponse } from './event-response.js';

const HEARTBEAT_MS = 15_000;
const PAGE = 500;
/** Messages that wait while the past is read; more means that the client is better off connecting again. */
const MAX_WAITING = 20_000;
/** Tabs and terminals of one person at one process. */
const STREAMS_OF_ONE = 30;

export interface StreamRequest {
  readonly user: SignedIn;
  /** One batch, which the user may see; `undefined` = everything that the user may see. */
  readonly batch: string | undefined;
  /** Id of the last event that the client has; `undefined` = from now on. */
  readonly after: number | undefined;
}

interface Stream {
  readonly user: SignedIn;
  readonly client: EventResponse;
}

/** Past and present of the events for each client, in one order, each once. */
@Injectable()
export class EventStream implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly streams = new Set<Stream>();
  private heart: NodeJS.Timeout | undefined;

  constructor(
    private readonly hub: EventHub,
    private readonly log: EventLog,
    private readonly progress: BatchProgressReads,
    private readonly accounts: Accounts,
    @Inject(CONTEXT) private readonly context: AppContext,
  ) {}

  onApplicationBootstrap(): void {
    this.heart = setInterval(() => void this.beat(), HEARTBEAT_MS);
    this.heart.unref();
  }

  onApplicationShutdown(): void {
    clearInterval(this.heart);
    for (const { client } of this.streams) client.end();
  }

  /**
   * Listens before the answer begins, so a client that sees the headers misses nothing that happens from then on.
   * Errors: `request-invalid` for an unknown `after`, `too-many-requests` for a person with too many streams.
   */
  async open(request: StreamRequest, response: Response): Promise<void> {
    this.refuseTooMany(request.user);
    const ends: (() => void)[] = [];
    const client = new EventResponse(response, () => ends.forEach((end) => end()));
    // Left before we came to it.
    if (client.isOver) return;
    const stream = { user: request.user, client };
    this.streams.add(stream);
    ends.push(() => this.streams.delete(stream));
    try {
      const from = request.after === undefined ? undefined : await this.log.placeOf(request.after);
      const present = new Present(client);
      const rights = { owner: ownerOf(request.user), batch: request.batch };
      const { place, leave } = await this.hub.join(rights, (told) => present.hear(told));
      ends.push(leave);
      if (client.isOver) leave();
      client.begin();
      this.run(request, { from, place }, present, client).catch((error: unknown) => {
        this.context.logger.warn({ err: error }, 'unable to go on with a stream of events');
        client.drop();
      });
    } catch (error) {
      this.streams.delete(stream);
      throw error;
    }
  }

  private refuseTooMany({ userId }: SignedIn): void {
    let count = 0;
    for (const { user } of this.streams) if (user.userId === userId) count += 1;
    if (count >= STREAMS_OF_ONE)
      throw new HatcheryError(
        'too-many-requests',
        `Unable to send events: ${STREAMS_OF_ONE} streams of yours are open`,
        { afterMs: 15_000, hint: 'Close a tab or a terminal that watches.' },
      );
  }

  private async run(
    request: StreamRequest,
    { from, place }: { from: Place | undefined; place: Place },
    present: Present,
    client: EventResponse,
  ): Promise<void> {
    const sent = from ? await this.replay(request, from, client) : place;
    if (request.batch !== undefined) {
      const now = (await this.progress.of([request.batch])).get(request.batch);
      if (now) client.write(progressMessage(request.batch, sent, now, undefined).text);
    }
    present.follow(sent);
  }

  /** Sends what happened behind `from` and gives the place that it reached. */
  private async replay(request: StreamRequest, from: Place, client: EventResponse): Promise<Place> {
    const rights = { batch: request.batch, owner: ownerOf(request.user) };
    let place = from;
    while (!client.isOver) {
      const rows = await this.log.after(place, PAGE, rights);
      client.write(bytesOf(rows.map((row) => eventMessage(row, undefined))));
      await client.read();
      const last = rows.at(-1);
      if (last) place = { xid: last.xid, seq: last.seq };
      if (rows.length < PAGE) break;
    }
    return place;
  }

  /** Keeps proxies from closing silent connections, and ends those whose token or account has ended: one read for all. */
  private async beat(): Promise<void> {
    const streams = [...this.streams];
    if (streams.length === 0) return;
    try {
      const good = await this.accounts.byTokenIds(streams.map(({ user }) => user.tokenId));
      for (const { user, client } of streams)
        if (good.get(user.tokenId)?.role === user.role) client.write(': still here\n\n');
        else client.end();
    } catch (error) {
      this.context.logger.warn({ err: error }, 'unable to tell who may still hear events: all streams end');
      for (const { client } of streams) client.drop();
    }
  }
}

/** What the hub tells one client: it waits until the past is sent, then goes through as it is. */
class Present {
  private waiting: Told[] | undefined = [];
  private waitingMessages = 0;
  /** Everything up to here was sent from the past; `undefined` = whatever comes is behind it. */
  private sent: Place | undefined;

  constructor(private readonly client: EventResponse) {}

  hear(told: Told): void {
    if (this.waiting === undefined) {
      this.send(told);
      return;
    }
    this.waiting.push(told);
    this.waitingMessages += told.messages.length;
    if (this.waitingMessages > MAX_WAITING) this.client.drop();
  }

  follow(sent: Place): void {
    this.sent = sent;
    const waiting = this.waiting ?? [];
    this.waiting = undefined;
    for (const told of waiting) this.send(told);
  }

  private send({ messages, bytes }: Told): void {
    const { sent } = this;
    if (sent !== undefined) {
      const news = messages.filter(({ isProgress, place }) => isProgress || isAfter(place, sent));
      if (news.some(({ isProgress }) => !isProgress)) this.sent = undefined;
      if (news.length < messages.length) {
        if (news.length > 0) this.client.write(bytesOf(news));
        return;
      }
    }
    this.client.write(bytes);
  }
}

const ownerOf = (user: SignedIn): string | undefined => (user.role === 'admin' ? undefined : user.userId);
