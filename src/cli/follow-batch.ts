import type { Client } from '../client/client/index.js';
import type { Event } from '../client/types.gen.js';
import { ERRORS, EXIT, HatcheryError } from '../core/errors.js';
import { answer, EVENT_STREAM, unreachable } from './api.js';
import { EventStreamParser } from './event-stream.js';

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5_000;
/** About ten minutes of nobody there. */
const MAX_FAILURES = 120;
/** The service says something at least every 15 s; a connection that is silent for longer is dead. */
const SILENCE_MS = 45_000;

export interface Following {
  /** Every event once, in order; a batch's first one says where it stands. */
  seen(event: Event): void;
  /** Ends the following after an event. */
  isOver(event: Event): boolean;
  /** The connection was lost (with why) or is there again (`undefined`). */
  outage(error: HatcheryError | undefined): void;
  readonly signal: AbortSignal;
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

/**
 * Follows the events of a batch until `isOver`, over lost connections and restarts of the service: it comes back behind the
 * last event it has. Gives false when `signal` ended it. Error: what the service refuses, or `service-unreachable` after ten minutes.
 */
export async function followBatch(api: Client, batch: string, following: Following): Promise<boolean> {
  const { signal } = following;
  let after: number | undefined;
  let failures = 0;
  while (!signal.aborted) {
    let lost: HatcheryError = broken('it ended the connection');
    try {
      for await (const event of eventsOnce(api, batch, after, signal)) {
        if (failures > 0) following.outage(undefined);
        failures = 0;
        after = event.seq;
        following.seen(event);
        if (following.isOver(event)) return true;
      }
    } catch (error) {
      if (signal.aborted) return false;
      const refusal = unreachable(error);
      const isForgotten = refusal.code === 'request-invalid' && after !== undefined;
      if (isForgotten) after = undefined;
      else if (!isPassing(refusal)) throw refusal;
      lost = refusal;
    }
    failures += 1;
    if (failures > MAX_FAILURES) throw lost;
    if (failures === 2) following.outage(lost);
    await following.sleep(Math.min(FIRST_PAUSE_MS * 2 ** (failures - 1), LONGEST_PAUSE_MS), signal);
  }
  return false;
}

const isPassing = ({ code }: HatcheryError): boolean =>
  ERRORS[code].exit === EXIT.unreachable || code === 'internal';

const broken = (why: string): HatcheryError =>
  new HatcheryError('service-unreachable', `Unable to follow the batch: ${why}`);

/** The events of one connection. */
async function* eventsOnce(
  api: Client,
  batch: string,
  after: number | undefined,
  signal: AbortSignal,
): AsyncGenerator<Event> {
  const quiet = new AbortController();
  const giveUp = (): void => quiet.abort(broken('the service has gone silent'));
  let silence = setTimeout(giveUp, SILENCE_MS);
  try {
    const body = await answer(
      api.get<{ 200: ReadableStream<Uint8Array> }>({
        url: '/api/v1/batches/{id}/events',
        path: { id: batch },
        query: { after },
        headers: { accept: EVENT_STREAM },
        security: [{ scheme: 'bearer', type: 'http' }],
        parseAs: 'stream',
        signal: AbortSignal.any([signal, quiet.signal]),
      }),
    );
    const parser = new EventStreamParser();
    const decoder = new TextDecoder();
    for await (const piece of body) {
      clearTimeout(silence);
      silence = setTimeout(giveUp, SILENCE_MS);
      for (const { event, data } of parser.push(decoder.decode(piece, { stream: true }))) {
        const known = readEvent(event, data);
        if (known) yield known;
      }
    }
  } finally {
    clearTimeout(silence);
    quiet.abort();
  }
}

const TYPES: readonly string[] = [
  'batch.progress',
  'machine.state',
  'step.state',
  'step.progress',
] satisfies Event['type'][];

/** A service that is newer than this command may send more types. */
function readEvent(type: string, data: string): Event | undefined {
  if (!TYPES.includes(type)) return undefined;
  const event = JSON.parse(data) as Event;
  return event.v === 1 && Number.isInteger(event.seq) ? event : undefined;
}
