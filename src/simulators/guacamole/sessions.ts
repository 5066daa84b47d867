import { randomBytes } from 'node:crypto';
import type { SimClock } from '../clock.js';
import { permissionDenied } from './guacamole-error.js';

/** REST sessions: a token dies after `timeoutMs` (simulated) without a request. */
export class Sessions {
  readonly #sessions = new Map<string, { login: string; usedAtMs: number }>();

  constructor(
    private readonly clock: SimClock,
    private readonly timeoutMs: number,
  ) {}

  open(login: string): string {
    const token = randomBytes(32).toString('hex').toUpperCase();
    this.#sessions.set(token, { login, usedAtMs: this.clock.elapsedMs() });
    return token;
  }

  loginOf(token: string | undefined): string | undefined {
    const session = token === undefined ? undefined : this.#sessions.get(token);
    const now = this.clock.elapsedMs();
    if (token === undefined || session === undefined) return undefined;
    if (now - session.usedAtMs > this.timeoutMs) {
      this.#sessions.delete(token);
      return undefined;
    }
    session.usedAtMs = now;
    return session.login;
  }

  require(token: string | undefined): string {
    const login = this.loginOf(token);
    if (login === undefined) throw permissionDenied();
    return login;
  }

  close(token: string): boolean {
    return this.#sessions.delete(token);
  }

  /** As if all had been idle for too long, or the web application had restarted. */
  closeAll(): void {
    this.#sessions.clear();
  }
}
