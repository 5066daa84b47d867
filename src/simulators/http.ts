import {
  createServer as createPlainServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server as HttpServer,
  type ServerResponse,
} from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import {
  createServer as createNetServer,
  type AddressInfo,
  type Server as NetServer,
  type Socket,
} from 'node:net';
import type { Certificate } from './tls.js';

export interface SimRequest {
  readonly method: string;
  /** Raw path, still encoded, without the query. */
  readonly path: string;
  /** Raw query, without `?`. */
  readonly query: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  /** The body was longer than the limit; `body` is cut. */
  readonly tooLarge: boolean;
  /** One per connection: what authenticates a connection (NTLM) is kept in a WeakMap on it. */
  readonly socket: Socket;
}

export interface SimReply {
  readonly status: number;
  readonly reason?: string;
  readonly headers?: Readonly<Record<string, string | string[]>>;
  readonly body?: string | Buffer;
  /** The connection ends after so many bytes of the body. */
  readonly cutAfterBytes?: number;
}

/** A reply, or what happens to the connection instead: RST, FIN, or nothing at all until the client gives up. */
export type SimAnswer = SimReply | 'reset' | 'drop' | 'silence';

export interface Listener {
  readonly port: number;
  readonly url: string;
  /** Off: every connection ends and new ones are refused. On again: the same port. */
  switch(isOn: boolean): Promise<void>;
  stop(): Promise<void>;
}

interface ListenSetup {
  readonly port?: number | undefined;
  /** Left out = plain HTTP. */
  readonly certificate?: Certificate;
  readonly bodyLimitBytes?: number;
  /** Idle keep-alive sockets die after this (wall time). Default 5,000. */
  readonly keepAliveMs?: number | undefined;
  readonly maxRequestsPerSocket?: number;
  /** Plain HTTP on a TLS port is told to come back with https, instead of being cut. */
  readonly redirectsPlain?: true;
  /** What somebody gets whose request can't be parsed; left out = what Node says. */
  readonly badRequest?: SimReply;
  /** Called per request; `delivered` tells later whether the answer was handed to an open socket, before the client can see it. */
  readonly handle: (request: SimRequest, delivered: Promise<boolean>) => Promise<SimAnswer>;
}

/** Listens on 127.0.0.1 and answers with `handle`. An error that `handle` throws cuts the connection and is kept for `stop`, which throws it: a broken simulator fails its test. */
export async function listen(setup: ListenSetup): Promise<Listener> {
  const broken: unknown[] = [];
  let isStopping = false;
  // Only the socket below TLS can send a RST.
  const rawSockets = new Map<number | undefined, Socket>();
  const onRequest = (incoming: IncomingMessage, response: ServerResponse): void => {
    const reset = (): void => void rawSockets.get(incoming.socket.remotePort)?.resetAndDestroy();
    answer(setup, incoming, response, reset).catch((error: unknown) => {
      if (!isStopping) broken.push(error);
      incoming.socket.destroy();
    });
  };
  const server = setup.certificate
    ? createTlsServer({ key: setup.certificate.keyPem, cert: setup.certificate.certPem }, onRequest)
    : createPlainServer(onRequest);
  server.keepAliveTimeout = setup.keepAliveMs ?? 5_000;
  server.maxRequestsPerSocket = setup.maxRequestsPerSocket ?? 0;
  const { badRequest } = setup;
  if (badRequest) server.on('clientError', (_, socket) => socket.end(rawReply(badRequest)));
  const front = setup.redirectsPlain ? bothOnOnePort(server) : server;
  front.on('connection', (raw: Socket) => {
    const { remotePort } = raw;
    rawSockets.set(remotePort, raw);
    raw.once('close', () => rawSockets.delete(remotePort));
  });
  const open = (port: number): Promise<void> =>
    new Promise((resolve, reject) => {
      front.once('error', reject);
      front.listen(port, '127.0.0.1', () => {
        front.removeListener('error', reject);
        resolve();
      });
    });
  const close = (): Promise<void> => {
    const closed = new Promise<void>((resolve) => front.close(() => resolve()));
    server.closeAllConnections();
    for (const raw of rawSockets.values()) raw.destroy();
    return closed;
  };
  await open(setup.port ?? 0);
  const { port } = front.address() as AddressInfo;
  return {
    port,
    url: `${setup.certificate ? 'https' : 'http'}://127.0.0.1:${port}`,
    async switch(isOn) {
      if (isOn && !front.listening) await open(port);
      else if (!isOn && front.listening) await close();
    },
    async stop() {
      isStopping = true;
      await close();
      if (broken.length > 0) throw broken[0];
    },
  };
}

/** The first byte of a TLS connection; no HTTP method starts with it. */
const TLS_HANDSHAKE = 22;

/** Hands TLS connections to `tls` and redirects the others. */
function bothOnOnePort(tls: HttpServer): NetServer {
  const plain = createPlainServer((incoming, response) => {
    const isRead = incoming.method === 'GET' || incoming.method === 'HEAD';
    const location = `https://${incoming.headers.host ?? 'localhost'}${incoming.url ?? '/'}`;
    response.writeHead(isRead ? 301 : 308, { location, connection: 'close', 'content-length': '0' });
    response.end();
  });
  return createNetServer((socket) => {
    socket.once('data', (first: Buffer) => {
      socket.pause();
      socket.unshift(first);
      (first[0] === TLS_HANDSHAKE ? tls : plain).emit('connection', socket);
      process.nextTick(() => socket.resume());
    });
    // Somebody who leaves before a word; with a word each server has its own listener.
    socket.on('error', () => socket.destroy());
  });
}

function rawReply({ status, reason, headers, body }: SimReply): string {
  const lines = Object.entries({ ...headers, 'content-length': String(Buffer.byteLength(body ?? '')) });
  const head = [
    `HTTP/1.1 ${status} ${reason ?? ''}`,
    ...lines.map(([key, value]) => `${key}: ${String(value)}`),
  ];
  return `${head.join('\r\n')}\r\n\r\n${String(body ?? '')}`;
}

async function answer(
  setup: ListenSetup,
  incoming: IncomingMessage,
  response: ServerResponse,
  reset: () => void,
): Promise<void> {
  const { body, tooLarge } = await readBody(incoming, setup.bodyLimitBytes ?? 1_048_576);
  const url = incoming.url ?? '/';
  const mark = url.indexOf('?');
  let tellDelivered: (isDelivered: boolean) => void = () => undefined;
  const delivered = new Promise<boolean>((resolve) => {
    tellDelivered = resolve;
  });
  const reply = await setup.handle(
    {
      method: incoming.method ?? 'GET',
      path: mark < 0 ? url : url.slice(0, mark),
      query: mark < 0 ? '' : url.slice(mark + 1),
      headers: incoming.headers,
      body,
      tooLarge,
      socket: incoming.socket,
    },
    delivered,
  );
  tellDelivered(typeof reply === 'object' && !incoming.socket.destroyed);
  if (reply === 'silence') return;
  if (reply === 'reset') {
    reset();
    return;
  }
  if (reply === 'drop') {
    incoming.socket.end();
    return;
  }
  const payload = Buffer.from(reply.body ?? '');
  const headers = { ...reply.headers, 'content-length': String(payload.length) };
  if (reply.reason === undefined) response.writeHead(reply.status, headers);
  else response.writeHead(reply.status, oneLine(reply.reason), headers);
  if (reply.cutAfterBytes === undefined) response.end(payload);
  else response.write(payload.subarray(0, reply.cutAfterBytes), () => incoming.socket.end());
}

/** A reason phrase holds no control character. */
function oneLine(text: string): string {
  return (text.split('\n')[0] ?? '').replace(/[^\t\x20-\x7e\x80-\xff]/g, '?');
}

async function readBody(
  incoming: IncomingMessage,
  limitBytes: number,
): Promise<{ body: Buffer; tooLarge: boolean }> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size <= limitBytes) chunks.push(chunk);
  }
  return { body: Buffer.concat(chunks), tooLarge: size > limitBytes };
}
