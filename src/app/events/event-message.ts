import type { BatchProgress } from './batch-progress.js';
import type { LoggedEvent, Place } from './event-log.js';

/** One thing to tell clients, as it is sent; `owner` and `batch` decide who may hear it. */
export interface EventMessage {
  /** The event, or the last one that a progress covers. */
  readonly place: Place;
  readonly isProgress: boolean;
  readonly batch: string | null;
  readonly owner: string | undefined;
  readonly text: string;
}

export function eventMessage(event: LoggedEvent, owner: string | undefined): EventMessage {
  const data = {
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
  };
  return {
    place: event,
    isProgress: false,
    batch: event.batch,
    owner,
    text: block(event.type, event.seq, data),
  };
}

/** Carries the number of the last event that it covers: resuming behind it loses nothing. */
export function progressMessage(
  batch: string,
  at: Place,
  progress: BatchProgress,
  owner: string | undefined,
): EventMessage {
  const data = {
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
    data: {
      counts: progress.counts,
      remainingSeconds: progress.remainingSeconds,
      expectedReadyAt: progress.expectedReadyAt,
    },
  };
  return { place: at, isProgress: true, batch, owner, text: block('batch.progress', at.seq, data) };
}

export const bytesOf = (messages: readonly EventMessage[]): Buffer =>
  Buffer.from(messages.map(({ text }) => text).join(''));

/** JSON has no line breaks of its own, and types are ours: one line each. */
const block = (type: string, id: number, data: object): string =>
  `event: ${type}\nid: ${id}\ndata: ${JSON.stringify(data)}\n\n`;
