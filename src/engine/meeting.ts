import { HatcheryError } from '../core/errors.js';
import type { GroupMember } from '../plan/step.js';
import type { Call } from '../ports/call.js';

type Guest<I> = GroupMember<I, { readonly call: Call }>;

/** A member ended before the request of its group left: the others are not to blame, and nothing was sent. */
export class GroupBroken extends HatcheryError {
  constructor(cause: unknown) {
    super('internal', 'Unable to go on with the group: one of its attempts ended before anything was sent', {
      retry: 'later',
      cause,
    });
  }
}

/** One attempt's place at its meeting. */
export interface Seat<I, O> {
  /** Resolves with the member's own outcome, or rejects with its failure, or with the reason why its own signal ended. */
  join(member: Guest<I>): Promise<O>;
  /** The attempt does not come, or is over. */
  leave(): void;
}

interface Present<I, O> {
  readonly member: Guest<I>;
  readonly resolve: (outcome: O) => void;
  readonly reject: (why: unknown) => void;
}

/**
 * Where the attempts of a group come together: each takes its locks and records its intent by itself, and when the last one has come or left,
 * what they want is done at once for all who are here. From then on each goes on by itself with its own outcome.
 */
export class Meeting<I, O> {
  readonly #present = new Set<Present<I, O>>();
  readonly #ended = new AbortController();
  #awaited: number;
  #hasBegun = false;

  constructor(
    seats: number,
    private readonly act: (members: readonly Guest<I>[], call: Call) => Promise<readonly (O | Error)[]>,
  ) {
    this.#awaited = seats;
  }

  seat(): Seat<I, O> {
    let isAwaited = true;
    const arrive = (): void => {
      if (!isAwaited) return;
      isAwaited = false;
      this.#awaited -= 1;
      if (this.#awaited === 0) void this.#begin();
    };
    return {
      join: async (member) => {
        const { signal } = member.run.call;
        signal.throwIfAborted();
        let end = (): void => undefined;
        try {
          return await new Promise<O>((resolve, reject) => {
            const present = { member, resolve, reject };
            this.#present.add(present);
            end = () => this.#goes(present, signal.reason);
            signal.addEventListener('abort', end);
            arrive();
          });
        } finally {
          signal.removeEventListener('abort', end);
        }
      },
      leave: arrive,
    };
  }

  #goes(present: Present<I, O>, why: unknown): void {
    this.#present.delete(present);
    present.reject(why);
    if (this.#hasBegun && this.#present.size === 0) this.#ended.abort(why);
  }

  async #begin(): Promise<void> {
    this.#hasBegun = true;
    const all = [...this.#present];
    if (all.length === 0) return;
    try {
      const outcomes = await this.act(
        all.map(({ member }) => member),
        this.#callOf(all),
      );
      for (const [index, { resolve, reject }] of all.entries()) {
        const outcome = outcomes[index];
        if (outcome instanceof Error) reject(outcome);
        else resolve(outcome as O);
      }
    } catch (error) {
      for (const { reject } of all) reject(error);
    }
  }

  #callOf(all: readonly Present<I, O>[]): Call {
    const calls = all.map(({ member }) => member.run.call);
    return {
      signal: this.#ended.signal,
      beforeSend: () => {
        const gone = calls.find(({ signal }) => signal.aborted);
        if (gone) throw new GroupBroken(gone.signal.reason);
        for (const call of calls) call.beforeSend();
      },
      onWarning: (text) => {
        for (const call of calls) call.onWarning?.(text);
      },
    };
  }
}
