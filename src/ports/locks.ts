import { HatcheryError } from '../core/errors.js';

/** Who holds a lock and why; shown to admins. */
export interface HeldLock {
  readonly name: string;
  readonly holder: string;
  readonly why: string;
  readonly sinceMs: number;
}

/**
 * Keeps parallel workers out of each other's way. Constraints, marks and epochs keep them right when a lock is lost.
 * Names are taken in sorted order, all or none. The signal given to `work` aborts when a lock is lost.
 * Errors: `lock-timeout` (says who holds it and why); `LockLost` when the work failed after one of its locks was lost.
 */
export interface Locks {
  with<T>(
    names: readonly string[],
    options: { why: string; waitMs: number; signal: AbortSignal },
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T>;
  /** Takes the lock if it is free right now; `undefined` = somebody else has it, or nobody can tell. The caller calls `release`. */
  tryHold(
    name: string,
    why: string,
  ): Promise<{ readonly lost: AbortSignal; release(): Promise<void> } | undefined>;
  held(): Promise<readonly HeldLock[]>;
}

/** Redis forgot a lock, or gave it to somebody else, while its work ran. */
export class LockLost extends HatcheryError {
  constructor(name: string) {
    super('lock-timeout', `Unable to go on: the lock ${name} was lost`, { retry: 'later' });
  }
}
