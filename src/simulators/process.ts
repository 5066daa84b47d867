import { AsyncLocalStorage } from 'node:async_hooks';

const running = new AsyncLocalStorage<SimProcess>();

/**
 * A process on a simulated machine: a task, or a worker that handles one call. When it is killed, nothing of it goes on: its waits on the
 * simulated clock never end, so neither its `catch` nor its `finally` blocks run. Only what `holding` was told to let go is let go.
 */
export class SimProcess {
  readonly #kills = new Set<() => void>();
  #isKilled = false;

  /** The process in which the caller runs; `undefined` outside of all. */
  static current(): SimProcess | undefined {
    return running.getStore();
  }

  get isKilled(): boolean {
    return this.#isKilled;
  }

  run<T>(work: () => Promise<T>): Promise<T> {
    return running.run(this, work);
  }

  kill(): void {
    if (this.#isKilled) return;
    this.#isKilled = true;
    for (const told of [...this.#kills].reverse()) told();
    this.#kills.clear();
  }

  /** Calls `told` on a kill, the latest first; gives the function that takes it back. */
  onKill(told: () => void): () => void {
    this.#kills.add(told);
    return () => this.#kills.delete(told);
  }
}

/** Runs `work` and then `letGo`, also when the process is killed meanwhile: as the kernel takes back what a process held. */
export async function holding<T>(letGo: (isKilled: boolean) => void, work: () => Promise<T>): Promise<T> {
  const owner = SimProcess.current();
  const forget = owner?.onKill(() => letGo(true));
  try {
    return await work();
  } finally {
    forget?.();
    if (!owner?.isKilled) letGo(false);
  }
}
