import { get, type IncomingMessage } from 'node:http';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { startApi, type ApiApp } from '../support/api-app.js';
import { EventClient } from '../support/event-client.js';
import { ownPostgres } from '../support/stores.js';
import { seedBatch, seedEvent, type SeededBatch } from '../support/seeds.js';

interface Event {
  id: number;
  type: string;
  data: Record<string, unknown> & { data?: { counts: Record<string, number> } };
}

let api: ApiApp;
let mine: { id: string; token: string };
let other: { id: string; token: string };
let batch: SeededBatch;
let foreign: SeededBatch;
const open: AbortController[] = [];

beforeAll(async () => {
  // A server of its own: events are served below the oldest transaction of the whole server, and other tests hold some open.
  const postgres = await ownPostgres();
  api = await startApi({ database: { url: postgres.url, drop: () => postgres.remove() } });
  mine = await api.makeUser('mine');
  other = await api.makeUser('other');
  batch = await seedBatch(api.db, { name: 'mine', ownerId: mine.id, states: ['ready', 'creating'] });
  foreign = await seedBatch(api.db, {
    name: 'foreign',
    ownerId: other.id,
    states: ['creating'],
    firstVmid: 11_000,
  });
});
afterEach(() => open.splice(0).forEach((stream) => stream.abort()));
afterAll(() => api.close());

/** Reads a stream as a browser would; `next` waits for the next event that `wanted` likes. */
async function listen(path: string, token: string, headers: Record<string, string> = {}) {
  const leaving = new AbortController();
  open.push(leaving);
  const response = await api.call('GET', `/api/v1/${path}`, { token, headers, signal: leaving.signal });
  expect(response.headers.get('content-type')).toBe('text/event-stream');
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  const next = async (wanted: (event: Event) => boolean = () => true): Promise<Event> => {
    for (;;) {
      const end = text.indexOf('\n\n');
      if (end >= 0) {
        const event = parse(text.slice(0, end));
        text = text.slice(end + 2);
        if (event && wanted(event)) return event;
        continue;
      }
      const { value, done } = await reader.read();
      if (done) throw new Error('the stream ended');
      text += value;
    }
  };
  return { next, leave: () => leaving.abort() };
}

function parse(block: string): Event | undefined {
  const field = (name: string): string => new RegExp(`^${name}: (.*)$`, 'm').exec(block)?.[1] ?? '';
  return field('data') === ''
    ? undefined
    : { id: Number(field('id')), type: field('event'), data: JSON.parse(field('data')) as Event['data'] };
}

const isState = (event: Event): boolean => event.type === 'machine.state';
const emit = async (batchId: string, state: string): Promise<number> => {
  const seq = await seedEvent(api.db, { batch: batchId, state });
  api.wakeUps.notify();
  return seq;
};

describe('events of a batch', () => {
  it('begin with how far it is and go on as things happen', async () => {
    const stream = await listen('batches/mine/events', mine.token);
    const first = await stream.next();
    expect(first).toMatchObject({
      type: 'batch.progress',
      data: {
        v: 1,
        batch: batch.id,
        state: 'working',
        data: { counts: { total: 2, ready: 1, creating: 1 } },
      },
    });
    const seq = await emit(batch.id, 'creating');
    expect(await stream.next(isState)).toMatchObject({
      id: seq,
      data: { v: 1, seq, type: 'machine.state', state: 'creating', batch: batch.id, percent: null },
    });
    expect(await stream.next((event) => event.type === 'batch.progress')).toMatchObject({ id: seq });
  });

  it('leave out other batches', async () => {
    const stream = await listen('batches/mine/events', mine.token);
    await emit(foreign.id, 'creating');
    const seq = await emit(batch.id, 'ready');
    expect((await stream.next(isState)).id).toBe(seq);
  });

  it('resume behind the last event that was seen, by header and by query, without gap or repeat', async () => {
    const seqs = [await emit(batch.id, 'a'), await emit(batch.id, 'b'), await emit(batch.id, 'c')];
    const byHeader = await listen('batches/mine/events', mine.token, { 'last-event-id': String(seqs[0]) });
    const byQuery = await listen(`batches/mine/events?after=${seqs[0]}`, mine.token);
    seqs.push(await emit(batch.id, 'd'));
    for (const stream of [byHeader, byQuery]) {
      const got = [];
      for (const _ of seqs.slice(1)) got.push((await stream.next(isState)).id);
      expect(got).toEqual(seqs.slice(1));
    }
  });

  it('give everything from the beginning after 0, and refuse an id that never was', async () => {
    const stream = await listen('batches/foreign/events?after=0', other.token);
    expect(await stream.next(isState)).toMatchObject({ data: { batch: foreign.id } });
    const refused = await api.call('GET', '/api/v1/events?after=999999', { token: mine.token });
    expect(await refused.json()).toMatchObject({ code: 'request-invalid' });
  });
});

describe('the order of events', () => {
  it('waits for a transaction that began earlier, so that nobody ever misses its events', async () => {
    const early = await api.db.connect();
    const stream = await listen('batches/mine/events', mine.token);
    await stream.next();
    try {
      await early.query('begin');
      const late = await seedEvent(early, { batch: batch.id, state: 'from the early one' });
      const quick = await emit(batch.id, 'from the quick one');
      const resumed = await listen(`batches/mine/events?after=${quick}`, mine.token);
      await early.query('commit');
      api.wakeUps.notify();
      expect([(await stream.next(isState)).id, (await stream.next(isState)).id]).toEqual([late, quick]);
      const after = await emit(batch.id, 'after');
      expect((await resumed.next(isState)).id).toBe(after);
    } finally {
      early.release();
    }
  });
});

describe('events of everything', () => {
  it('begin only when nothing can be missed any more: no answer before the reader knows its place', async () => {
    const blocker = await api.db.connect();
    await blocker.query('begin; lock table events in access exclusive mode');
    let isReleased = false;
    const answered = listen('events', mine.token).then((stream) => ({ stream, afterRelease: isReleased }));
    for (let waiting = 0; waiting === 0;) {
      const { rows } = await blocker.query<{ count: number }>(
        'select count(*)::int as count from pg_locks where not granted',
      );
      waiting = rows[0]!.count;
    }
    // A round trip of the same kind, so that an answer that had left too early would be here by now.
    await api.call('GET', '/health/live');
    isReleased = true;
    await blocker.query('commit');
    blocker.release();
    const { stream, afterRelease } = await answered;
    expect(afterRelease).toBe(true);
    const id = await emit(batch.id, 'ready');
    expect((await stream.next(isState)).id).toBe(id);
  });

  it('show a teacher own batches and an admin all', async () => {
    const [teacher, admin] = [await listen('events', mine.token), await listen('events', api.adminToken)];
    const first = await emit(foreign.id, 'creating');
    const second = await emit(batch.id, 'ready');
    expect((await teacher.next(isState)).id).toBe(second);
    expect([(await admin.next(isState)).id, (await admin.next(isState)).id]).toEqual([first, second]);
  });
});

describe('a client that does not read', () => {
  it('is dropped before it fills the memory of the service, and finds the rest when it comes back', async () => {
    const url = `${api.url}/api/v1/batches/mine/events`;
    const open = (): Promise<IncomingMessage> =>
      new Promise((resolve, reject) => {
        get(url, { agent: false, headers: { authorization: `Bearer ${mine.token}` } }, resolve).on(
          'error',
          reject,
        );
      });
    const deaf = await open();
    const other = await EventClient.open(url, mine.token);
    // More than the buffers of both kernels hold.
    const { rows } = await api.db.query<{ seq: string }>(
      `insert into events (type, batch, state) select 'machine.state', $1, 'creating' from generate_series(1, 60000) returning seq`,
      [batch.id],
    );
    const seqs = rows.map(({ seq }) => Number(seq));
    api.wakeUps.notify();
    await Promise.race([other.ended, other.until(({ id }) => id === seqs.at(-1))]);
    let text = '';
    deaf.setEncoding('utf8').on('data', (piece: string) => (text += piece));
    await new Promise<void>((resolve) => deaf.on('error', () => undefined).on('close', () => resolve()));
    const whole = text.slice(0, text.lastIndexOf('\n\n'));
    const got = [...whole.matchAll(/^event: machine.state\nid: (\d+)$/gm)].map(([, id]) => Number(id));
    expect(got.length).toBeLessThan(seqs.length);
    expect(got).toEqual(seqs.slice(0, got.length));
    const back = await EventClient.open(url, mine.token, got.at(-1));
    await back.until(({ id }) => id === seqs.at(-1));
    expect([...got, ...back.ids]).toEqual(seqs);
    await Promise.all([other.leave(), back.leave()]);
  });
});

describe('the streams of one person', () => {
  it('are limited, so that one cannot fill the memory of the service; leaving one makes room', async () => {
    const greedy = await api.makeUser('greedy');
    const streams = await Promise.all(Array.from({ length: 30 }, () => listen('events', greedy.token)));
    const more = Array.from({ length: 5 }, () => api.call('GET', '/api/v1/events', { token: greedy.token }));
    for (const refused of await Promise.all(more)) {
      expect(await refused.json()).toMatchObject({ status: 429, code: 'too-many-requests' });
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    }
    await listen('events', other.token);
    streams[0]!.leave();
    await vi.waitFor(() => listen('events', greedy.token), { timeout: 60_000 });
  });
});
