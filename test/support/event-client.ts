/** One server-sent event; `id` is its number. */
export interface ReceivedEvent {
  readonly id: number;
  readonly type: string;
  readonly state: string | null;
}

/** Follows a stream of events in the background and keeps what came. */
export class EventClient {
  readonly events: ReceivedEvent[] = [];
  private readonly leaving = new AbortController();
  private readonly watchers = new Set<() => void>();
  private readonly reading: Promise<void>;

  private constructor(response: Response) {
    this.reading = this.read(response).catch(() => undefined);
  }

  /** Resolves when the answer has begun. `after` = the last event that is known already. */
  static async open(url: string, token: string, after?: number): Promise<EventClient> {
    const leaving = new AbortController();
    const response = await fetch(url, {
      headers: {
        authorization: `Bearer ${token}`,
        ...(after === undefined ? {} : { 'last-event-id': String(after) }),
      },
      signal: leaving.signal,
    });
    if (!response.ok) throw new Error(await response.text());
    const client = new EventClient(response);
    client.leaving.signal.addEventListener('abort', () => leaving.abort());
    return client;
  }

  /** Ids without those of `batch.progress`, which is computed and not an event of the log. */
  get ids(): number[] {
    return this.events.filter(({ type }) => type !== 'batch.progress').map(({ id }) => id);
  }

  /** Resolves when one has come that is `wanted`. */
  async until(wanted: (event: ReceivedEvent) => boolean): Promise<void> {
    while (!this.events.some(wanted)) await new Promise<void>((resolve) => this.watchers.add(resolve));
  }

  /** Resolves when the other side has ended the stream. */
  get ended(): Promise<void> {
    return this.reading;
  }

  async leave(): Promise<void> {
    this.leaving.abort();
    await this.reading;
  }

  private async read(response: Response): Promise<void> {
    let text = '';
    for await (const piece of response.body!.pipeThrough(new TextDecoderStream())) {
      const blocks = (text + piece).split('\n\n');
      text = blocks.pop()!;
      for (const block of blocks) this.take(block);
      for (const tell of this.watchers) tell();
      this.watchers.clear();
    }
  }

  private take(block: string): void {
    const data = /^data: (.*)$/m.exec(block)?.[1];
    if (data === undefined) return;
    const { seq, type, state } = JSON.parse(data) as { seq: number; type: string; state: string | null };
    this.events.push({ id: seq, type, state });
  }
}
