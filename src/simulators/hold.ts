import { Interrupted } from './clock.js';

/**
 * Where an operation can be stopped: `before` its effect, `after` its effect but before the answer,
 * `task-start` (answered, task not begun), `task` (in the middle: for a clone the temporary config is there and nothing else), `task-end` (done, verdict not yet written).
 */
export type HoldPoint = 'before' | 'after' | 'task-start' | 'task' | 'task-end';

interface Gate {
  readonly open: Promise<void>;
  readonly letGo: () => void;
  waiting: number;
}

/** Stops operations at named points so that tests need no sleeps. Library only: there is no way to reach it over the wire. */
export class Holds {
  readonly #gates = new Map<string, Gate>();
  readonly #watchers = new Map<string, (() => void)[]>();
  readonly #interrupted: Promise<never>;

  constructor(signal: AbortSignal) {
    this.#interrupted = new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(new Interrupted('the simulator stopped')), {
        once: true,
      });
    });
    this.#interrupted.catch(() => undefined);
  }

  /** From now on every `op` stops at `where` until `release`. */
  hold(op: string, where: HoldPoint = 'before'): void {
    const key = `${op}@${where}`;
    if (this.#gates.has(key)) return;
    const { promise, resolve } = openable();
    this.#gates.set(key, { open: promise, letGo: resolve, waiting: 0 });
  }

  /** Resolves as soon as at least `count` operations stand there. */
  async reached(op: string, where: HoldPoint = 'before', count = 1): Promise<void> {
    const key = `${op}@${where}`;
    while ((this.#gates.get(key)?.waiting ?? 0) < count) {
      await Promise.race([
        new Promise<void>((resolve) =>
          this.#watchers.set(key, [...(this.#watchers.get(key) ?? []), resolve]),
        ),
        this.#interrupted,
      ]);
    }
  }

  /** Lets all go and holds no more. */
  release(op: string, where: HoldPoint = 'before'): void {
    const key = `${op}@${where}`;
    this.#gates.get(key)?.letGo();
    this.#gates.delete(key);
  }

  /** Called by simulators at each point. */
  async pass(op: string, where: HoldPoint): Promise<void> {
    const key = `${op}@${where}`;
    const gate = this.#gates.get(key);
    if (!gate) return;
    gate.waiting += 1;
    for (const wake of this.#watchers.get(key) ?? []) wake();
    this.#watchers.delete(key);
    await Promise.race([gate.open, this.#interrupted]);
  }
}

function openable(): { promise: Promise<void>; resolve: () => void } {
  let resolve: () => void = () => undefined;
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
