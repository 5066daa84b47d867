import type { Agent, IncomingHttpHeaders } from 'node:http';
import { clusterIdentity, type ClusterDefinition } from '../../core/definitions.js';
import { HatcheryError } from '../../core/errors.js';
import type { Call } from '../../ports/call.js';
import type { Clock } from '../../ports/clock.js';
import type { Secret } from '../../ports/secrets.js';
import { endpointAgent } from '../http/endpoint-agent.js';
import { Permits } from '../http/permits.js';
import { RequestFailed, sendRequest } from '../http/send-request.js';
import {
  needsSecondFactor,
  noAnswer,
  notSent,
  reasonOf,
  refusal,
  type RemoteAnswer,
  type RemoteRequest,
} from './errors.js';
import { encodeForm, withQuery, type Params } from './form.js';
import { tokenSignIn, TicketSignIn, type Proof, type SignIn, type Ticket } from './sign-in.js';
import { envelope, ticket, type Envelope } from './wire.js';

/** One call of the API. `what` completes "Unable to ..."; `op` is its kind in the metrics; `path` starts after `/api2/json`. */
export interface ReadRequest {
  readonly op: string;
  readonly what: string;
  readonly path: string;
  readonly query?: Params;
}

export interface WriteRequest {
  readonly op: string;
  readonly what: string;
  readonly method: 'POST' | 'PUT' | 'DELETE';
  /** The node that does the work; its permit is held for this call. */
  readonly node: string;
  readonly path: string;
  /** Form of POST and PUT; a DELETE has none and puts it into the query, because it must not have a body. */
  readonly params?: Params;
}

export interface CallMetrics {
  /** One HTTP call: its kind, how long it took, and `ok`, a status, `not-sent`, `no-answer` or `aborted`. */
  observe(op: string, seconds: number, outcome: string): void;
}

export interface TimeoutsMs {
  readonly connect: number;
  readonly read: number;
  readonly write: number;
}

/** Waits shrink with the remote time scale, but never below what a busy machine needs for an honest answer. */
export function timeoutsFor(remoteTimeScale: number): TimeoutsMs {
  return {
    connect: Math.max(2_000, 5_000 * remoteTimeScale),
    read: Math.max(5_000, 30_000 * remoteTimeScale),
    write: Math.max(5_000, 35_000 * remoteTimeScale),
  };
}

/** The server closes idle connections after 5 s; ours are gone long before, so that a request rarely meets a closing one. */
const IDLE_MS = 2_000;
/** The server closes a connection with its 100th answer; ours are gone before, so that no write meets one that is being closed. */
const REQUESTS_PER_CONNECTION = 90;
/** Three blocking workers stand behind an endpoint: more parallel calls would only queue up there. */
const MAX_SOCKETS = 16;

export interface HttpOptions {
  readonly definition: ClusterDefinition;
  readonly secret: Secret;
  readonly timeoutsMs: TimeoutsMs;
  readonly remoteTimeScale: number;
  readonly clock: Clock;
  readonly metrics?: CallMetrics | undefined;
}

interface Endpoint {
  readonly url: URL;
  readonly agent: Agent;
}

export interface RawAnswer extends RemoteAnswer {
  readonly headers: IncomingHttpHeaders;
}

interface Attempt {
  readonly method: 'GET' | WriteRequest['method'];
  readonly op: string;
  readonly path: string;
  readonly body: string | undefined;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly beforeSend: (() => void) | undefined;
  /** The sign-in itself has nothing to show yet. */
  readonly isSignIn?: true;
}

const NO_PROOF: Proof = { read: {}, write: {} };

/**
 * The wire to one cluster: sign-in, trust, fail-over, permits, translation of errors.
 * Any endpoint answers for the whole cluster. A call that certainly was not sent goes to the next endpoint; one that was sent never does.
 * 401 is raised before anything is done: with a ticket, one new sign-in follows and the request is repeated.
 * A GET on a kept connection that the server closed meanwhile is repeated once; a write never.
 */
export class ProxmoxHttp {
  readonly #endpoints: readonly Endpoint[];
  /** The API servers of a node are three blocking workers: a fourth write of ours only makes everybody else wait. */
  readonly #permits: Permits;
  readonly #signIn: SignIn;
  readonly #options: HttpOptions;
  /** Index of the endpoint that answered last. */
  #preferred = 0;

  constructor(options: HttpOptions) {
    this.#options = options;
    const { definition, secret, timeoutsMs } = options;
    this.#signIn = this.#signInOf(definition, secret);
    this.#permits = new Permits(definition.limits.writesPerNode);
    this.#endpoints = definition.endpoints.map((text) => {
      const url = new URL(text);
      const { trust } = definition;
      const limits = { maxSockets: MAX_SOCKETS, connectMs: timeoutsMs.connect, idleMs: IDLE_MS };
      return { url, agent: endpointAgent(url, { trust: 'system' in trust ? undefined : trust, ...limits }) };
    });
  }

  /** Answers the whole envelope. Errors: see errors.ts; `signal`'s reason when it aborted. */
  async read(request: ReadRequest, signal: AbortSignal): Promise<Envelope> {
    const { op, what, path, query } = request;
    const attempt: Attempt = {
      method: 'GET',
      op,
      path: withQuery(path, query),
      body: undefined,
      timeoutMs: this.#options.timeoutsMs.read,
      signal,
      beforeSend: undefined,
    };
    return this.#anyEndpoint(attempt, this.#remote(what, false));
  }

  /** As `read`; `call.beforeSend` runs when the connection stands and before its first byte. */
  async write(request: WriteRequest, call: Call): Promise<Envelope> {
    const { op, what, method, node, path, params } = request;
    const inQuery = method === 'DELETE';
    const attempt: Attempt = {
      method,
      op,
      path: inQuery ? withQuery(path, params) : path,
      body: inQuery ? undefined : encodeForm(params ?? {}),
      timeoutMs: this.#options.timeoutsMs.write,
      signal: call.signal,
      beforeSend: call.beforeSend,
    };
    return this.#permits.with(node, call.signal, () => this.#anyEndpoint(attempt, this.#remote(what, true)));
  }

  /** Reads from one endpoint only, for the check of each of them. */
  async readFrom(endpoint: string, request: ReadRequest, signal: AbortSignal): Promise<Envelope> {
    const found = this.#endpoints.find(({ url }) => url.href === new URL(endpoint).href);
    const remote = this.#remote(request.what, false);
    if (!found) throw notSent(remote, `${endpoint} is not an endpoint of the cluster`);
    const { timeoutsMs } = this.#options;
    const path = withQuery(request.path, request.query);
    const base = { method: 'GET', op: request.op, body: undefined, beforeSend: undefined } as const;
    return this.#judged(found, { ...base, path, signal, timeoutMs: timeoutsMs.read }, remote);
  }

  /** Any answer as it came, judged by nobody; for the recording of a cluster. `path` with its query. */
  async readRaw(path: string, signal: AbortSignal): Promise<RawAnswer> {
    const attempt: Attempt = {
      method: 'GET',
      op: 'record',
      path,
      body: undefined,
      timeoutMs: this.#options.timeoutsMs.read,
      signal,
      beforeSend: undefined,
    };
    const endpoint = this.#endpoints[this.#preferred]!;
    return this.#proven(endpoint, attempt, this.#remote(`read ${path}`, false));
  }

  /** Drops every connection; calls under way fail. */
  close(): void {
    for (const { agent } of this.#endpoints) agent.destroy();
  }

  #signInOf({ token, account }: ClusterDefinition, secret: Secret): SignIn {
    if (token) return tokenSignIn(token.id, secret);
    // The schema lets nothing through that has neither.
    const { username } = account!;
    const { clock, remoteTimeScale } = this.#options;
    const ask = (password: string): Promise<Ticket> => this.#askTicket(username, password);
    return new TicketSignIn({ clock, remoteTimeScale, password: secret, ask });
  }

  /** A sign-in whose answer got lost did no harm and is made again, like a read. */
  async #askTicket(username: string, password: string): Promise<Ticket> {
    const remote = this.#remote(`sign in to cluster ${this.#options.definition.name}`, false);
    const answer = await this.#anyEndpoint(
      {
        method: 'POST',
        op: 'sign-in',
        path: '/access/ticket',
        body: encodeForm({ username, password }),
        timeoutMs: this.#options.timeoutsMs.read,
        signal: new AbortController().signal,
        beforeSend: undefined,
        isSignIn: true,
      },
      remote,
    );
    const given = ticket.safeParse(answer.data).data;
    if (given === undefined) throw noAnswer(remote, 'the answer holds no ticket');
    if (given.NeedTFA) throw needsSecondFactor(remote);
    return { ticket: given.ticket, csrf: given.CSRFPreventionToken };
  }

  #remote(what: string, isWrite: boolean): RemoteRequest {
    return { what, isWrite, identity: clusterIdentity(this.#options.definition).id };
  }

  async #anyEndpoint(attempt: Attempt, remote: RemoteRequest): Promise<Envelope> {
    const first = this.#preferred;
    let last: unknown;
    for (let offset = 0; offset < this.#endpoints.length; offset += 1) {
      const index = (first + offset) % this.#endpoints.length;
      try {
        const answer = await this.#judged(this.#endpoints[index]!, attempt, remote);
        this.#preferred = index;
        return answer;
      } catch (error) {
        if (!mayTryNext(error, attempt)) {
          this.#leaveSilent(index, error);
          throw error;
        }
        last = error;
      }
    }
    throw last;
  }

  /** An endpoint that hangs, or that sits in a part of the cluster without quorum, is not asked first the next time. */
  #leaveSilent(index: number, error: unknown): void {
    if (!(error instanceof HatcheryError) || index !== this.#preferred) return;
    if (['cluster-unreachable', 'outcome-unknown', 'cluster-no-quorum'].includes(error.code))
      this.#preferred = (index + 1) % this.#endpoints.length;
  }

  async #judged(endpoint: Endpoint, attempt: Attempt, remote: RemoteRequest): Promise<Envelope> {
    const answer = await this.#proven(endpoint, attempt, remote);
    if (answer.status !== 200) throw refusal(remote, answer);
    const parsed = envelope(answer.body);
    if (parsed === undefined) throw noAnswer(remote, 'the answer is not JSON of the Proxmox API');
    return parsed;
  }

  async #proven(endpoint: Endpoint, attempt: Attempt, remote: RemoteRequest): Promise<RawAnswer> {
    if (attempt.isSignIn) return this.#answered(endpoint, attempt, remote, NO_PROOF);
    const proof = await this.#signIn.proof(attempt.signal);
    const answer = await this.#answered(endpoint, attempt, remote, proof);
    if (answer.status !== 401 || !this.#signIn.isOutdated(proof)) return answer;
    return this.#answered(endpoint, attempt, remote, await this.#signIn.proof(attempt.signal));
  }

  async #answered(
    endpoint: Endpoint,
    attempt: Attempt,
    remote: RemoteRequest,
    proof: Proof,
    again = true,
  ): Promise<RawAnswer> {
    const { signal, method } = attempt;
    const startedAt = performance.now();
    let outcome = 'aborted';
    try {
      const answer = await sendRequest({
        method,
        url: `${endpoint.url.origin}/api2/json${attempt.path}`,
        headers: {
          ...(method === 'GET' ? proof.read : proof.write),
          accept: 'application/json',
          ...(attempt.body !== undefined && { 'content-type': 'application/x-www-form-urlencoded' }),
        },
        ...(attempt.body !== undefined && { body: Buffer.from(attempt.body) }),
        agent: endpoint.agent,
        requestsPerConnection: REQUESTS_PER_CONNECTION,
        clock: this.#options.clock,
        timeoutMs: attempt.timeoutMs,
        signal,
        beforeSend: attempt.beforeSend,
      });
      outcome = answer.status === 200 ? 'ok' : String(answer.status);
      const { status, reasonPhrase, headers } = answer;
      return { status, reasonPhrase, headers, body: answer.body.toString('utf8') };
    } catch (error) {
      if (!(error instanceof RequestFailed)) throw error;
      // Who ends a wait knows why, unless a write is on its way: then its outcome is what matters.
      if (error.why === 'aborted' && (!error.sent || method === 'GET')) throw signal.reason;
      outcome = error.sent ? 'no-answer' : 'not-sent';
      if (again && method === 'GET' && error.sent && isCut(error))
        return await this.#answered(endpoint, attempt, remote, proof, false);
      const why = `${endpoint.url.host}: ${error.message}`;
      if (error.sent) throw noAnswer(remote, why, error.cause);
      throw notSent(remote, why, { cause: error.cause, facts: { sent: false } });
    } finally {
      this.#options.metrics?.observe(attempt.op, (performance.now() - startedAt) / 1000, outcome);
    }
  }
}

/** A kept connection that the server closed meanwhile, or a cut one. */
function isCut(error: RequestFailed): boolean {
  return ['ECONNRESET', 'EPIPE'].includes((error.cause as { code?: string }).code ?? '');
}

function mayTryNext(error: unknown, attempt: Attempt): boolean {
  if (!(error instanceof HatcheryError)) return false;
  if (error.facts['sent'] === false) return true;
  // 595 of a read that is not bound to a node: the daemon of the asked node is down, another node can answer.
  return (
    attempt.method === 'GET' && reasonOf(error) === 'node-unreachable' && !attempt.path.startsWith('/nodes/')
  );
}
