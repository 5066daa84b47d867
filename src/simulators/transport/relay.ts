import type { Duplex } from 'node:stream';
import { Interrupted } from '../clock.js';
import type { FaultedAnswer, FiredFaults } from '../faults.js';
import type { Wire } from './wire.js';

/** One side of a connection. */
export interface Side {
  readonly stream: Duplex;
  /** Ends it with a RST, below TLS too. */
  reset(): void;
}

export interface RelaySetup {
  readonly client: Side;
  /** Connects to the other side; fails when that does not answer. */
  readonly connect: () => Promise<Side>;
  readonly wire: Wire;
  readonly match: (op: string) => FiredFaults;
  readonly cut: (forMs: number) => void;
}

interface Awaited {
  readonly fired: FiredFaults;
  /** What becomes of the answer, known when it begins. */
  fate?: Promise<FaultedAnswer | undefined>;
  /** Bytes of it that came through already. */
  sent: number;
}

/**
 * One connection between a client and the other side of a transport, and what faults do to it. Within a connection order is kept: what
 * comes behind a delayed request waits too.
 */
export class Relay {
  readonly #awaited: Awaited[] = [];
  #service: Side | undefined;
  /** From now on both sides are listened to and nothing is passed on. */
  #isSilent = false;

  constructor(private readonly setup: RelaySetup) {
    // Every error of a stream ends its loop; one that comes between loops has nobody else.
    setup.client.stream.on('error', () => undefined);
  }

  /** Runs until the connection is over. */
  async run(): Promise<void> {
    try {
      const opened = this.setup.match('connect');
      await this.#suffer(await opened.answer('before'));
      const service = this.#isSilent ? undefined : await this.setup.connect();
      this.#service = service;
      service?.stream.on('error', () => undefined);
      await this.#suffer(await opened.answer('after'));
      await Promise.all([this.#requests(service), service && this.#answers(service)]);
    } catch (error) {
      this.reset();
      if (!(error instanceof Ended || error instanceof Interrupted || isOfStream(error))) throw error;
    }
  }

  /** Both sides, at once. */
  reset(): void {
    this.setup.client.reset();
    this.#service?.reset();
  }

  async #requests(service: Side | undefined): Promise<void> {
    const { client, wire, match } = this.setup;
    for await (const chunk of client.stream as AsyncIterable<Buffer>) {
      if (this.#isSilent || service === undefined) continue;
      const out = new Outgoing(service.stream);
      for (const { bytes, op, awaitsAnswer, reply } of wire.requests(chunk)) {
        if (reply) await new Outgoing(client.stream).send(reply);
        else {
          if (op !== undefined) {
            const fired = match(op);
            if (fired.rules.length > 0) await out.flush();
            await this.#suffer(await fired.answer('before'));
            if (awaitsAnswer) this.#awaited.push({ fired, sent: 0 });
          }
          if (!this.#isSilent) out.add(bytes);
        }
      }
      await out.flush();
    }
    if (this.#isSilent) this.reset();
    else service?.stream.end();
  }

  async #answers(service: Side): Promise<void> {
    const out = new Outgoing(this.setup.client.stream);
    for await (const chunk of service.stream as AsyncIterable<Buffer>) {
      if (this.#isSilent) continue;
      for (const { bytes, endsAnswer } of this.setup.wire.answers(chunk)) {
        const [request] = this.#awaited;
        const fate = await this.#fateOf(request, out);
        if (this.#isSilent) break;
        if (fate?.kind === 'truncate') await this.#truncate(request!, bytes, fate.bytes, endsAnswer);
        else if (fate === undefined) out.add(bytes);
        else if (endsAnswer) await this.#suffer(fate);
        if (endsAnswer) this.#awaited.shift();
      }
      await out.flush();
    }
    if (!this.#isSilent) this.setup.client.stream.end();
  }

  async #fateOf(request: Awaited | undefined, out: Outgoing): Promise<FaultedAnswer | undefined> {
    if (request === undefined || request.fired.rules.length === 0) return undefined;
    await out.flush();
    return (request.fate ??= request.fired.answer('after'));
  }

  async #truncate(request: Awaited, bytes: Buffer, limit: number, isLast: boolean): Promise<void> {
    const part = bytes.subarray(0, limit - request.sent);
    request.sent += part.length;
    await new Outgoing(this.setup.client.stream).send(part);
    if (isLast || request.sent >= limit) await this.#suffer({ kind: 'drop' });
  }

  /** Does what a fault says to the connection; throws when there is none any more. */
  async #suffer(fate: FaultedAnswer | undefined): Promise<void> {
    switch (fate?.kind) {
      case 'silence':
        this.#isSilent = true;
        return;
      case 'reset':
        this.reset();
        throw new Ended();
      case 'drop':
        this.#service?.reset();
        await new Promise<void>((resolve) => this.setup.client.stream.end(resolve));
        throw new Ended();
      case 'cut':
        this.setup.cut(fate.forMs);
        throw new Ended();
      default:
    }
  }
}

/** A fault ended the connection. */
class Ended extends Error {}

/** Gathers what goes to one side, so that a pipeline does not become one packet per command, and waits while that side is full. */
class Outgoing {
  #pieces: Buffer[] = [];

  constructor(private readonly stream: Duplex) {}

  add(bytes: Buffer): void {
    this.#pieces.push(bytes);
  }

  async send(bytes: Buffer): Promise<void> {
    this.add(bytes);
    await this.flush();
  }

  async flush(): Promise<void> {
    const { stream } = this;
    const pieces = this.#pieces;
    this.#pieces = [];
    if (pieces.length === 0 || stream.destroyed) return;
    if (stream.write(pieces.length === 1 ? pieces[0] : Buffer.concat(pieces))) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        stream.removeListener('drain', done);
        stream.removeListener('close', done);
        resolve();
      };
      stream.on('drain', done);
      stream.on('close', done);
    });
  }
}

/** A connection that broke, by whomever. */
function isOfStream(error: unknown): boolean {
  return typeof (error as NodeJS.ErrnoException).code === 'string';
}
