import { Permits } from '../http/permits.js';
import { SshConnection, type ConnectionSettings } from './connection.js';

/** OpenSSH lets ten sessions be open on a connection (MaxSessions) and lets ten connections be signing in (MaxStartups). */
const SESSIONS = 8;
const IDLE_MS = 60_000;

/** One connection to each node of this process, kept while it is used; callers above the limit wait in order of arrival. */
export class Sessions {
  readonly #permits = new Permits(SESSIONS);
  readonly #open = new Map<string, Promise<SshConnection>>();
  readonly #idle = new Map<string, NodeJS.Timeout>();
  readonly #working = new Map<string, number>();

  constructor(private readonly settingsOf: (node: string) => ConnectionSettings) {}

  /** Errors: those of `SshConnection.open` and of `work`; the signal's reason when it aborts before there is a place. */
  with<T>(node: string, signal: AbortSignal, work: (connection: SshConnection) => Promise<T>): Promise<T> {
    return this.#permits.with(node, signal, async () => {
      clearTimeout(this.#idle.get(node));
      this.#working.set(node, (this.#working.get(node) ?? 0) + 1);
      try {
        return await work(await unlessAborted(this.#connection(node), signal));
      } finally {
        const left = this.#working.get(node)! - 1;
        this.#working.set(node, left);
        if (left === 0) this.#idle.set(node, setTimeout(() => this.#close(node), IDLE_MS).unref());
      }
    });
  }

  closeAll(): void {
    for (const node of [...this.#open.keys()]) this.#close(node);
  }

  async #connection(node: string): Promise<SshConnection> {
    const there = this.#open.get(node);
    if (there !== undefined && (await there).isOpen) return there;
    // Somebody else may have found it closed before us, and opened another one.
    const now = this.#open.get(node);
    if (now !== undefined && now !== there) return now;
    const opening = SshConnection.open(this.settingsOf(node));
    this.#open.set(node, opening);
    // One that never opened is not waited for again.
    opening.catch(() => this.#open.get(node) === opening && this.#open.delete(node));
    return opening;
  }

  #close(node: string): void {
    clearTimeout(this.#idle.get(node));
    void this.#open.get(node)?.then(
      (connection) => connection.close(),
      () => undefined,
    );
    this.#open.delete(node);
  }
}

/** The connection is shared: it goes on opening for the others when one of them gives up. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let stop: () => void;
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason as Error);
    signal.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', stop!);
  }
}
