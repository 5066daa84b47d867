import { HatcheryError } from '../../core/errors.js';
import type { Clock } from '../../ports/clock.js';
import type { Secret } from '../../ports/secrets.js';
import { waitFor } from '../wait-for.js';

const HOUR_MS = 3_600_000;
/** A ticket lives for 2 h: it is renewed long before, and taken for dead shortly before. */
const RENEW_AFTER_MS = HOUR_MS;
const DEAD_AFTER_MS = 1.9 * HOUR_MS;
/** A refused password is not tried again at once: a hundred waiting calls must not look like somebody guessing it. */
const REFUSED_FOR_MS = 30_000;

/** What one request shows to prove who we are: compared by identity, never written anywhere. */
export interface Proof {
  readonly read: Readonly<Record<string, string>>;
  /** For everything but GET: a ticket needs its CSRF token there. */
  readonly write: Readonly<Record<string, string>>;
}

export interface SignIn {
  /** Signs in first where that is needed. Errors: `permission-missing`, `cluster-unreachable`. */
  proof(signal: AbortSignal): Promise<Proof>;
  /** 401 came for this proof. Gives whether another one can be had: 401 is raised before anything is done, so even a write may be repeated. */
  isOutdated(proof: Proof): boolean;
}

/** A token proves itself with each request, and a refused one stays refused. */
export function tokenSignIn(id: string, secret: Secret): SignIn {
  const headers = { authorization: `PVEAPIToken=${id}=${secret.reveal()}` };
  return { proof: () => Promise.resolve({ read: headers, write: headers }), isOutdated: () => false };
}

export interface Ticket {
  readonly ticket: string;
  readonly csrf: string;
}

interface Session extends Proof {
  readonly ticket: string;
  readonly sinceMs: number;
}

/** One ticket for all callers: got with the password, renewed with itself, got again with the password when it is refused. */
export class TicketSignIn implements SignIn {
  readonly #clock: Clock;
  readonly #timeScale: number;
  readonly #password: Secret;
  readonly #ask: (password: string) => Promise<Ticket>;
  #session: Session | undefined;
  #flight: Promise<Session> | undefined;
  #refused: { readonly untilMs: number; readonly error: HatcheryError } | undefined;

  /** `ask` = `POST /access/ticket` for the account, with its password or a ticket that is still good; refused: `permission-missing`. */
  constructor(options: {
    readonly clock: Clock;
    readonly remoteTimeScale: number;
    readonly password: Secret;
    readonly ask: (password: string) => Promise<Ticket>;
  }) {
    this.#clock = options.clock;
    this.#timeScale = options.remoteTimeScale;
    this.#password = options.password;
    this.#ask = options.ask;
  }

  async proof(signal: AbortSignal): Promise<Proof> {
    const age = this.#age();
    if (this.#session && age < RENEW_AFTER_MS) return this.#session;
    const flight = this.#flight ?? this.#start();
    // Until it is dead, the old ticket is as good as the new one: nobody waits for the renewal.
    return this.#session && age < DEAD_AFTER_MS ? this.#session : await waitFor(flight, signal);
  }

  isOutdated(proof: Proof): boolean {
    if (this.#session === proof) this.#session = undefined;
    return true;
  }

  #age(): number {
    return this.#session ? (this.#clock.monotonicMs() - this.#session.sinceMs) / this.#timeScale : Infinity;
  }

  #start(): Promise<Session> {
    const flight = this.#newSession().finally(() => {
      this.#flight = undefined;
    });
    // Everybody may have left before it fails.
    flight.catch(() => undefined);
    this.#flight = flight;
    return flight;
  }

  async #newSession(): Promise<Session> {
    const now = this.#clock.monotonicMs();
    if (this.#refused && now < this.#refused.untilMs) throw this.#refused.error;
    const { ticket, csrf } = (await this.#renewed()) ?? (await this.#signedIn());
    const read = { cookie: `PVEAuthCookie=${encodeURIComponent(ticket)}` };
    this.#session = { ticket, sinceMs: now, read, write: { ...read, csrfpreventiontoken: csrf } };
    return this.#session;
  }

  /** `undefined` when there is no ticket, or when it is not good any more. */
  async #renewed(): Promise<Ticket | undefined> {
    if (!this.#session || this.#age() >= DEAD_AFTER_MS) return undefined;
    try {
      return await this.#ask(this.#session.ticket);
    } catch (error) {
      if (error instanceof HatcheryError && error.code === 'permission-missing') return undefined;
      throw error;
    }
  }

  async #signedIn(): Promise<Ticket> {
    try {
      return await this.#ask(this.#password.reveal());
    } catch (error) {
      if (error instanceof HatcheryError && error.code === 'permission-missing')
        this.#refused = { error, untilMs: this.#clock.monotonicMs() + REFUSED_FOR_MS * this.#timeScale };
      throw error;
    }
  }
}
