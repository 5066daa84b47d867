import { randomBytes } from 'node:crypto';
import type http from 'node:http';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { HatcheryError } from '../../core/errors.js';
import type { Trust } from '../../core/definitions.js';
import type { Clock } from '../../ports/clock.js';
import type { Secret } from '../../ports/secrets.js';
import { endpointAgent } from '../http/endpoint-agent.js';
import { sendRequest, type HttpAnswer } from '../http/send-request.js';
import {
  authenticateMessage,
  channelBindings,
  negotiateMessage,
  ntlmIdentity,
  readChallenge,
  type NtlmChallenge,
} from './ntlm.js';

export interface ConnectionSettings {
  readonly endpoint: URL;
  readonly trust: Trust | undefined;
  readonly username: string;
  readonly password: Secret;
  readonly timeoutMs: number;
  readonly clock: Clock;
}

export interface PostOptions {
  readonly signal: AbortSignal;
  readonly beforeSend?: (() => void) | undefined;
}

/**
 * One connection to a WinRM listener over HTTPS, signed in with NTLMv2 (or Basic when the server offers nothing better).
 * NTLM signs in the connection and not the request: one socket, kept alive, never shared.
 * Errors: `permission-missing` (after-fix: wrong name or password), `service-unreachable`, `RequestFailed`.
 */
export class WinrmConnection {
  readonly #settings: ConnectionSettings;
  readonly #agent: http.Agent;
  #signedIn: Socket | undefined;
  #usesBasic = false;

  constructor(settings: ConnectionSettings) {
    this.#settings = settings;
    const { endpoint, trust, timeoutMs } = settings;
    this.#agent = endpointAgent(endpoint, { trust, maxSockets: 1, connectMs: Math.min(timeoutMs, 10_000) });
  }

  get signInMethod(): 'ntlm' | 'basic' {
    return this.#usesBasic ? 'basic' : 'ntlm';
  }

  /** Sends one envelope and gives the answer, whose status is 200 or a fault's. */
  async post(envelope: string, options: PostOptions): Promise<HttpAnswer> {
    const body = Buffer.from(envelope, 'utf8');
    if (this.#usesBasic) return this.#accepted(await this.#send(body, this.#basic(), options));
    if (this.#signedIn === undefined) return this.#signIn(body, options);
    const answer = await this.#send(body, undefined, options);
    // The server closed the old connection meanwhile; it did nothing for the new one.
    return answer.status === 401 ? this.#signIn(body, options) : answer;
  }

  close(): void {
    this.#agent.destroy();
  }

  async #signIn(body: Buffer, options: PostOptions): Promise<HttpAnswer> {
    const negotiate = negotiateMessage();
    const first = await this.#send(Buffer.alloc(0), `Negotiate ${negotiate.toString('base64')}`, {
      signal: options.signal,
    });
    const challenge = challengeIn(first);
    if (challenge === undefined) {
      if (first.status !== 401 || !offers(first, 'basic')) throw this.#noWayIn(first);
      this.#usesBasic = true;
      return this.#accepted(await this.#send(body, this.#basic(), options));
    }
    const { username, password, clock } = this.#settings;
    const authenticate = authenticateMessage({
      identity: ntlmIdentity(username, password.reveal()),
      negotiate,
      challenge,
      clientChallenge: randomBytes(8),
      wallMs: clock.wallMs(),
      bindings: bindingsOf(first.socket),
    });
    const answer = await this.#send(body, `Negotiate ${authenticate.toString('base64')}`, options);
    if (answer.status === 401 && answer.socket !== first.socket)
      throw new HatcheryError(
        'service-unreachable',
        `Unable to sign in to ${this.#host}: it closed the connection during the sign-in`,
        {
          retry: 'later',
          hint: 'a proxy in between may not keep connections alive; NTLM needs that',
        },
      );
    this.#signedIn = answer.socket;
    return this.#accepted(answer);
  }

  async #send(body: Buffer, authorization: string | undefined, options: PostOptions): Promise<HttpAnswer> {
    const { endpoint, clock, timeoutMs } = this.#settings;
    return sendRequest({
      method: 'POST',
      url: endpoint.href,
      headers: {
        'Content-Type': 'application/soap+xml;charset=UTF-8',
        'User-Agent': 'Hatchery',
        ...(authorization !== undefined && { Authorization: authorization }),
      },
      body,
      agent: this.#agent,
      clock,
      timeoutMs,
      ...options,
    });
  }

  #accepted(answer: HttpAnswer): HttpAnswer {
    if (answer.status !== 401) return answer;
    throw new HatcheryError(
      'permission-missing',
      `Unable to sign in to ${this.#host}: the name or the password of ${this.#settings.username} is wrong`,
      {
        retry: 'after-fix',
        hint: 'correct username or password of the service; the account must also be a member of "Remote Management Users" on the server',
        facts: { signIn: 'refused' },
      },
    );
  }

  #noWayIn(answer: HttpAnswer): HatcheryError {
    if (answer.status !== 401)
      return new HatcheryError(
        'service-unreachable',
        `Unable to sign in to ${this.#host}: it answers with HTTP ${answer.status}, not as WinRM does`,
        {
          retry: 'later',
          hint: 'write the endpoint as https://host:5986/wsman',
        },
      );
    return new HatcheryError(
      'permission-missing',
      `Unable to sign in to ${this.#host}: it offers neither Negotiate nor Basic`,
      {
        retry: 'after-fix',
        hint: 'on the server: Set-Item WSMan:\\localhost\\Service\\Auth\\Negotiate $true',
      },
    );
  }

  #basic(): string {
    const { username, password } = this.#settings;
    return `Basic ${Buffer.from(`${username}:${password.reveal()}`, 'utf8').toString('base64')}`;
  }

  get #host(): string {
    return this.#settings.endpoint.host;
  }
}

/** All schemes that a 401 offers, one per entry. */
function schemes(answer: HttpAnswer): string[] {
  const header = answer.headers['www-authenticate'];
  return (Array.isArray(header) ? header : (header ?? '').split(',')).map((scheme) => String(scheme).trim());
}

function offers(answer: HttpAnswer, name: string): boolean {
  return schemes(answer).some((scheme) => scheme.toLowerCase().startsWith(name));
}

function challengeIn(answer: HttpAnswer): NtlmChallenge | undefined {
  const token = schemes(answer)
    .map((scheme) => /^Negotiate ([A-Za-z0-9+/]+={0,2})$/i.exec(scheme)?.[1])
    .find((found) => found !== undefined);
  return answer.status === 401 && token !== undefined
    ? readChallenge(Buffer.from(token, 'base64'))
    : undefined;
}

function bindingsOf(socket: Socket): Buffer | undefined {
  if (!(socket instanceof TLSSocket)) return undefined;
  const { raw } = socket.getPeerCertificate() as { raw?: Buffer };
  return raw === undefined ? undefined : channelBindings(raw);
}
