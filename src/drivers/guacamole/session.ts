import type http from 'node:http';
import type { ServiceDefinition } from '../../core/definitions.js';
import { HatcheryError } from '../../core/errors.js';
import type { Clock } from '../../ports/clock.js';
import type { Secret } from '../../ports/secrets.js';
import { endpointAgent } from '../http/endpoint-agent.js';
import { RequestFailed, sendRequest, type HttpRequest } from '../http/send-request.js';
import { noAnswer, readError, refusal, type RequestContext } from './guacamole-error.js';
import { waitFor } from '../wait-for.js';
import { tokenAnswer } from './wire.js';

const MAX_SOCKETS = 8;

export interface CallMetrics {
  /** One HTTP call: its kind, how long it took, its status or `no-answer`. */
  observe(op: string, seconds: number, outcome: string): void;
}

export interface SessionSettings {
  readonly definition: ServiceDefinition;
  readonly password: Secret;
  readonly clock: Clock;
  readonly timeoutMs: number;
  readonly metrics?: CallMetrics | undefined;
}

export interface DataRequest {
  readonly op: string;
  /** Completes "Unable to ...". */
  readonly what: string;
  readonly method: HttpRequest['method'];
  /** Below `session/data/{dataSource}/`, each segment encoded. */
  readonly path: string;
  readonly json?: unknown;
  readonly signal: AbortSignal;
  /** Given for writes only. */
  readonly beforeSend?: () => void;
}

/** What an answer means. `exists` = the name is taken (400, there is no 409). */
export type Reply =
  { readonly is: 'ok'; readonly body: unknown } | { readonly is: 'not-found' } | { readonly is: 'exists' };

interface Token {
  readonly text: string;
  readonly username: string;
  readonly dataSource: string;
}

/**
 * The wire to one Guacamole: one token for all callers, in the header (in the URL it would be logged).
 * A dead token is answered with 403 like a missing right, so a 403 is followed by one sign-in and one more try.
 * Errors: `permission-missing`, `service-unreachable`, `outcome-unknown`, `remote-refused`.
 */
export class GuacamoleSession {
  readonly #settings: SessionSettings;
  readonly #agent: http.Agent;
  readonly #base: string;
  #signIn: Promise<Token> | undefined;
  #current: Token | undefined;
  #dataSource: string | undefined;

  constructor(settings: SessionSettings) {
    this.#settings = settings;
    const { definition, timeoutMs } = settings;
    const endpoint = new URL(definition.endpoint);
    this.#base = endpoint.href.replace(/\/+$/, '');
    this.#agent = endpointAgent(endpoint, {
      trust: definition.trust,
      maxSockets: MAX_SOCKETS,
      connectMs: Math.min(timeoutMs, 10_000),
    });
  }

  /** The web application's address, without a slash at the end. */
  get base(): string {
    return this.#base;
  }

  /** `undefined` until the first sign-in. */
  get dataSource(): string | undefined {
    return this.#dataSource;
  }

  /** Who we are there. */
  async username(signal: AbortSignal): Promise<string> {
    return (await this.#token(signal)).username;
  }

  async ask(request: DataRequest): Promise<Reply> {
    const token = await this.#token(request.signal);
    const first = await this.#askOnce(request, token);
    if (first.status !== 403) return judge(first, contextOf(request));
    this.#drop(token);
    return judge(await this.#askOnce(request, await this.#token(request.signal)), contextOf(request));
  }

  /** Gives the token back and drops the connections. */
  async close(): Promise<void> {
    const token = await this.#signIn?.catch(() => undefined); // no token, nothing to give back
    if (token !== undefined) {
      const path = `tokens/${encodeURIComponent(token.text)}`;
      const what = `sign out of ${this.#settings.definition.name}`;
      await this.#send(
        { op: 'sign-out', what, method: 'DELETE', path, signal: new AbortController().signal },
        {},
      ).catch(
        () => undefined, // it dies by itself after an hour
      );
    }
    this.#agent.destroy();
  }

  async #token(signal: AbortSignal): Promise<Token> {
    if (this.#signIn === undefined) {
      const signIn = this.#newToken();
      this.#signIn = signIn;
      signIn.catch(() => {
        if (this.#signIn === signIn) this.#signIn = undefined;
      });
    }
    return waitFor(this.#signIn, signal);
  }

  /** Another caller may have signed in again already: then that token is good. */
  #drop(token: Token): void {
    if (this.#current !== token) return;
    this.#current = undefined;
    this.#signIn = undefined;
  }

  async #newToken(): Promise<Token> {
    const { definition, password } = this.#settings;
    const form = new URLSearchParams({ username: definition.username, password: password.reveal() });
    const what = `sign in to ${definition.name} as ${definition.username}`;
    const answer = await this.#send(
      { op: 'sign-in', what, method: 'POST', path: 'tokens', signal: new AbortController().signal },
      { 'Content-Type': 'application/x-www-form-urlencoded' },
      Buffer.from(form.toString(), 'utf8'),
    );
    const context = { what, isWrite: false };
    if (answer.status !== 200) throw refusal(answer.status, answer.body, context);
    const parsed = tokenAnswer.safeParse(answer.body).data;
    if (parsed === undefined) throw notGuacamole(context);
    const { authToken, username, dataSource } = parsed;
    this.#dataSource = dataSource;
    this.#current = { text: authToken, username, dataSource };
    return this.#current;
  }

  #askOnce(request: DataRequest, token: Token) {
    const headers = {
      'Guacamole-Token': token.text,
      ...(request.json !== undefined && { 'Content-Type': 'application/json' }),
    };
    const path = `session/data/${encodeURIComponent(token.dataSource)}/${request.path}`;
    const body = request.json === undefined ? undefined : Buffer.from(JSON.stringify(request.json), 'utf8');
    return this.#send({ ...request, path }, headers, body);
  }

  async #send(
    request: DataRequest,
    headers: Record<string, string>,
    body?: Buffer,
  ): Promise<{ status: number; body: unknown }> {
    const { clock, timeoutMs, metrics } = this.#settings;
    const startedAt = clock.monotonicMs();
    let outcome = 'no-answer';
    try {
      const answer = await sendRequest({
        method: request.method,
        url: `${this.#base}/api/${request.path}`,
        headers: { Accept: 'application/json', ...headers },
        ...(body !== undefined && { body }),
        agent: this.#agent,
        clock,
        timeoutMs,
        signal: request.signal,
        beforeSend: request.beforeSend,
      });
      outcome = String(answer.status);
      return { status: answer.status, body: parse(answer.body) };
    } catch (error) {
      throw error instanceof RequestFailed ? noAnswer(error, contextOf(request)) : error;
    } finally {
      metrics?.observe(request.op, (clock.monotonicMs() - startedAt) / 1000, outcome);
    }
  }
}

function contextOf({ what, beforeSend }: DataRequest): RequestContext {
  return { what, isWrite: beforeSend !== undefined };
}

function judge({ status, body }: { status: number; body: unknown }, context: RequestContext): Reply {
  if (status >= 200 && status < 300) return { is: 'ok', body };
  const { type, message } = readError(body);
  // A proxy's own 404 page is no answer of Guacamole.
  if (status === 404 && type === 'NOT_FOUND') return { is: 'not-found' };
  if (
    status === 400 &&
    /^(The connection|The connection group|User|The user) ".*" already exists\.$/.test(message)
  )
    return { is: 'exists' };
  throw refusal(status, body, context);
}

export function notGuacamole({ what }: { what: string }): HatcheryError {
  return new HatcheryError('remote-refused', `Unable to ${what}: the answer is not one of Guacamole's API`, {
    retry: 'later',
    hint: 'write the endpoint as https://host/guacamole, without /api',
  });
}

function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined; // 204, or the page of a proxy
  }
}
