import axios, { type AxiosResponse } from 'axios';
import http from 'node:http';
import https from 'node:https';
import type { Socket } from 'node:net';
import type { Clock } from '../../ports/clock.js';
import { UntrustedPeer } from './endpoint-agent.js';
import { Permits } from './permits.js';

const ANSWER_LIMIT_BYTES = 32 * 1024 * 1024;

export interface HttpRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Buffer;
  /** Made by `endpointAgent`. */
  readonly agent: http.Agent;
  /** Its connection is given up after so many requests; left out = when the server says so. */
  readonly requestsPerConnection?: number;
  readonly clock: Clock;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** The last synchronous act before the bytes leave; what it throws is thrown. */
  readonly beforeSend?: (() => void) | undefined;
}

export interface HttpAnswer {
  readonly status: number;
  readonly reasonPhrase: string;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
  readonly socket: Socket;
}

/** No answer came. `sent` = bytes of the request may have left. */
export class RequestFailed extends Error {
  override readonly name = 'RequestFailed';
  constructor(
    readonly sent: boolean,
    readonly why: 'aborted' | 'timeout' | 'untrusted' | 'network',
    override readonly cause: Error,
  ) {
    super(cause.message);
  }
}

/**
 * One HTTP request over an endpoint's agent; every status is an answer.
 * Errors: `RequestFailed`, or what `beforeSend` threw.
 */
export async function sendRequest(request: HttpRequest): Promise<HttpAnswer> {
  const { signal, clock, timeoutMs } = request;
  if (signal.aborted) throw new RequestFailed(false, 'aborted', toError(signal.reason));
  const late = new AbortController();
  const ended = new AbortController();
  clock.sleep(timeoutMs, ended.signal).then(
    () => late.abort(new Error(`no answer after ${timeoutMs} ms`)),
    () => undefined, // the request ended first
  );
  const passage: Passage = { socket: undefined, refusal: undefined };
  const end = AbortSignal.any([signal, late.signal]);
  try {
    const response = await placesOf(request.agent).with('', end, () => transfer(request, passage, end));
    return {
      status: response.status,
      reasonPhrase: response.statusText,
      headers: response.headers as http.IncomingHttpHeaders,
      body: response.data,
      socket: passage.socket!,
    };
  } catch (error) {
    if (passage.refusal !== undefined) throw passage.refusal.error;
    const sent = passage.socket !== undefined;
    if (signal.aborted) throw new RequestFailed(sent, 'aborted', toError(signal.reason));
    if (late.signal.aborted) throw new RequestFailed(sent, 'timeout', toError(late.signal.reason));
    const cause = bareCause(error);
    throw new RequestFailed(sent, cause instanceof UntrustedPeer ? 'untrusted' : 'network', cause);
  } finally {
    ended.abort();
  }
}

function transfer(
  request: HttpRequest,
  passage: Passage,
  signal: AbortSignal,
): Promise<AxiosResponse<Buffer>> {
  return axios.request<Buffer>({
    method: request.method,
    url: request.url,
    headers: { ...request.headers },
    ...(request.body !== undefined && { data: request.body }),
    transport: guardedTransport(request, passage),
    httpAgent: request.agent,
    httpsAgent: request.agent,
    proxy: false,
    maxRedirects: 0,
    maxContentLength: ANSWER_LIMIT_BYTES,
    responseType: 'arraybuffer',
    validateStatus: () => true,
    signal,
  });
}

const places = new WeakMap<http.Agent, Permits>();

/** The agent counts a connection only when it stands, so that many requests at once would get one each. */
function placesOf(agent: http.Agent): Permits {
  const known = places.get(agent) ?? new Permits(agent.maxSockets);
  places.set(agent, known);
  return known;
}

interface Passage {
  /** Set from the moment the bytes leave. */
  socket: Socket | undefined;
  refusal: { readonly error: unknown } | undefined;
}

/** Node emits `socket` when the agent handed the connection out, and flushes the request right after it in the same turn. */
function guardedTransport(request: HttpRequest, passage: Passage) {
  const protocol = request.url.startsWith('https:') ? https : http;
  return {
    request(
      options: https.RequestOptions,
      onResponse: (response: http.IncomingMessage) => void,
    ): http.ClientRequest {
      const outgoing = protocol.request(options, onResponse);
      outgoing.once('socket', (socket) => {
        try {
          request.beforeSend?.();
          passage.socket = socket;
          if (countRequest(socket) === request.requestsPerConnection) outgoing.shouldKeepAlive = false;
        } catch (error) {
          passage.refusal = { error };
          outgoing.destroy(toError(error));
        }
      });
      return outgoing;
    },
  };
}

const requestsOf = new WeakMap<Socket, number>();

/** How many requests the connection has carried, with this one. */
function countRequest(socket: Socket): number {
  const count = (requestsOf.get(socket) ?? 0) + 1;
  requestsOf.set(socket, count);
  return count;
}

/** The error of axios itself carries the whole request, headers with secrets included: it goes no further. */
function bareCause(error: unknown): Error {
  if (!axios.isAxiosError(error)) return toError(error);
  return error.cause ?? Object.assign(new Error(error.message), { code: error.code });
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
