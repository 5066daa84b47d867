import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import type { Clock } from '../../ports/clock.js';
import { systemClock } from '../system-clock.js';
import { endpointAgent } from './endpoint-agent.js';
import { sendRequest, type HttpRequest } from './send-request.js';

describe('one HTTP request', () => {
  const closing: (() => void)[] = [];
  afterEach(() => {
    for (const close of closing.splice(0)) close();
  });

  async function start(listener: RequestListener) {
    const server: Server = createServer(listener);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const agent = endpointAgent(new URL(url), { trust: undefined, maxSockets: 1, connectMs: 5_000 });
    let connections = 0;
    server.on('connection', () => (connections += 1));
    closing.push(() => {
      agent.destroy();
      server.closeAllConnections();
      server.close();
    });
    const signal = new AbortController().signal;
    const send = (more: Partial<HttpRequest> = {}) =>
      sendRequest({
        method: 'POST',
        url,
        headers: {},
        body: Buffer.from('body'),
        agent,
        clock: systemClock,
        timeoutMs: 5_000,
        signal,
        ...more,
      });
    return Object.assign(send, { connections: () => connections });
  }

  it('answers with every status', async () => {
    const send = await start((_, response) => response.writeHead(503).end('busy'));
    const answer = await send();
    expect([answer.status, answer.body.toString()]).toEqual([503, 'busy']);
  });

  it('keeps its connection', async () => {
    const send = await start((_, response) => response.end());
    const [first, second] = [await send(), await send()];
    expect(first.socket).toBe(second.socket);
  });

  it('opens no more connections than it may, also when many ask before the first one stands', async () => {
    const send = await start((_, response) => response.end());
    await Promise.all(Array.from({ length: 20 }, () => send()));
    expect(send.connections()).toBe(1);
  });

  it('gives its connection up after so many requests, also while others wait for it', async () => {
    const send = await start((_, response) => response.end());
    const answers = await Promise.all([1, 2, 3, 4, 5].map(() => send({ requestsPerConnection: 2 })));
    const [a, b, c, d, e] = answers.map(({ socket }) => socket);
    expect([a === b, b === c, c === d, d === e]).toEqual([true, false, true, false]);
  });

  it('sends nothing when the last check before the bytes throws', async () => {
    let arrived = 0;
    const send = await start((_, response) => {
      arrived += 1;
      response.end();
    });
    const beforeSend = (): never => {
      throw new Error('too late');
    };
    await expect(send({ beforeSend })).rejects.toThrow('too late');
    await send();
    expect(arrived).toBe(1);
  });

  it('tells that it was sent when the connection breaks afterwards', async () => {
    const send = await start((request) => request.socket.resetAndDestroy());
    await expect(send()).rejects.toMatchObject({ sent: true, why: 'network' });
  });

  it('tells that it was not sent when nobody listens', async () => {
    const send = await start((_, response) => response.end());
    const agent = endpointAgent(new URL('http://127.0.0.1:1/'), {
      trust: undefined,
      maxSockets: 1,
      connectMs: 5_000,
    });
    await expect(send({ url: 'http://127.0.0.1:1/', agent })).rejects.toMatchObject({
      sent: false,
      why: 'network',
    });
  });

  it('does not wait longer than its time-out', async () => {
    let arrive: () => void = () => undefined;
    const arrived = new Promise<void>((resolve) => {
      arrive = resolve;
    });
    const send = await start(() => arrive());
    const clock: Clock = { ...systemClock, sleep: () => arrived };
    await expect(send({ clock, timeoutMs: 30_000 })).rejects.toMatchObject({
      sent: true,
      why: 'timeout',
      message: 'no answer after 30000 ms',
    });
  });

  it('ends with the reason of its signal', async () => {
    const cancel = new AbortController();
    const send = await start(() => cancel.abort(new Error('cancelled')));
    await expect(send({ signal: cancel.signal })).rejects.toMatchObject({
      sent: true,
      why: 'aborted',
      message: 'cancelled',
    });
    await expect(send({ signal: cancel.signal })).rejects.toMatchObject({ sent: false, why: 'aborted' });
  });
});
