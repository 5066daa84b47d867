import { once } from 'node:events';
import type { Response } from 'express';

/** Bytes that may wait for a client that does not read; then it is dropped and comes back with Last-Event-ID. */
const MAX_PENDING_BYTES = 1_000_000;

/** An answer that goes on: server-sent events to one client. What many get is handed over as the same bytes, one write for each. */
export class EventResponse {
  private readonly gone = new AbortController();

  /** `onEnd` is called once, whoever ends it. */
  constructor(
    private readonly response: Response,
    onEnd: () => void,
  ) {
    this.gone.signal.addEventListener('abort', onEnd);
    response.once('close', () => this.gone.abort());
    if (response.destroyed) this.gone.abort();
  }

  get isOver(): boolean {
    return this.gone.signal.aborted;
  }

  /** Sends the head: from now on an error can only end it. */
  begin(): void {
    if (this.isOver) return;
    this.response.req.socket.setTimeout(0);
    this.response.writeHead(200, {
      'Content-Type': 'text/event-stream',
      'Cache-Control': 'private, no-cache, no-store, must-revalidate, max-age=0, no-transform',
      // nginx collects answers otherwise.
      'X-Accel-Buffering': 'no',
    });
    this.response.write('\n');
  }

  write(text: string | Buffer): void {
    if (this.isOver) return;
    this.response.write(text);
    if (this.response.writableLength > MAX_PENDING_BYTES) this.drop();
  }

  /** Resolves when the client has read what was written, or is gone. */
  async read(): Promise<void> {
    if (this.response.writableNeedDrain)
      await once(this.response, 'drain', { signal: this.gone.signal }).catch(() => undefined);
  }

  end(): void {
    if (!this.isOver) this.response.end();
  }

  /** Without a word: the client connects again and goes on behind the last event that it has. */
  drop(): void {
    this.response.destroy();
    this.gone.abort();
  }
}
