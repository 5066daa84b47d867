import type { Client } from '../client/client/index.js';
import { listBatchMachines } from '../client/sdk.gen.js';
import type { Batch, Event } from '../client/types.gen.js';
import { HatcheryError } from '../core/errors.js';
import { answer } from './api.js';
import type { Cli } from './cli.js';
import { followBatch } from './follow-batch.js';
import { LiveProgress } from './render/live-progress.js';
import type { BatchProgress, ShownFailure } from './render/progress.js';
import { readyText } from './render/ready.js';
import { INTERRUPTED } from './world.js';

type Goal = BatchProgress['goal'];

/**
 * Shows how a batch comes on until nothing of it moves any more. Gives its last state, or `undefined` when the person
 * stopped watching: then the batch goes on, and the person is told how to come back.
 */
export async function watchBatch(
  cli: Cli,
  api: Client,
  batch: Batch,
  goal: Goal,
): Promise<Batch['state'] | undefined> {
  const { terminal } = cli.world;
  const leaving = new AbortController();
  const release = terminal.onInterrupt(() => leaving.abort());
  const view = new BatchView(cli, api, batch, goal, leaving.signal);
  let last: Batch['state'] = batch.state;
  try {
    const isOver = await followBatch(api, batch.id, {
      signal: leaving.signal,
      sleep: (ms, signal) => cli.world.sleep(ms, signal),
      outage: (error) => view.outage(error),
      seen: (event) => {
        if (event.type === 'batch.progress') view.show(event);
      },
      isOver: (event) => {
        if (event.type !== 'batch.progress') return false;
        last = event.state as Batch['state'];
        return last !== 'working' && last !== 'deleting';
      },
    });
    await view.settle();
    if (isOver) return last;
  } finally {
    release();
  }
  cli.say(`The batch goes on without you. Come back with: hatchery batch watch ${batch.name}`);
  cli.exitCode = INTERRUPTED;
  return undefined;
}

/** Failures that are read for the view; the results name them all. */
const MAX_READ = 50;

/** What is known of the batch while it is watched. */
class BatchView {
  readonly #live: LiveProgress;
  #event: Event | undefined;
  #firstAt: number | undefined;
  #failures: readonly ShownFailure[] = [];
  #stuck = 0;
  #reading: Promise<void> | undefined;

  constructor(
    private readonly cli: Cli,
    private readonly api: Client,
    private readonly batch: Batch,
    private readonly goal: Goal,
    private readonly leaving: AbortSignal,
  ) {
    this.#live = new LiveProgress(cli.world.terminal);
  }

  show(event: Event): void {
    this.#event = event;
    this.#firstAt ??= this.goal === 'ready' ? Date.parse(this.batch.createdAt) : Date.parse(event.at);
    this.#draw();
    const counts = event.data?.counts;
    if (counts && counts.parked + counts.failed !== this.#stuck) {
      this.#stuck = counts.parked + counts.failed;
      this.#reading ??= this.#readFailures();
    }
  }

  outage(error: HatcheryError | undefined): void {
    this.#live.tell(
      error === undefined
        ? 'The service answers again.'
        : 'The service does not answer; the batch is not lost. Trying again ...',
    );
  }

  /** Ends when everything that was asked for is shown. */
  async settle(): Promise<void> {
    await this.#reading;
  }

  #draw(): void {
    const { data, state, percent, at } = this.#event ?? {};
    if (data === undefined || at === undefined) return;
    const ready = readyText(data);
    this.#live.update({
      batch: this.batch.name,
      goal: this.goal,
      counts: data.counts,
      ...(state === 'working' && percent != null ? { percent } : {}),
      elapsedSeconds: (Date.parse(at) - (this.#firstAt ?? 0)) / 1000,
      ...(ready === undefined ? {} : { readyText: ready }),
      failures: this.#failures,
    });
  }

  /** One read at a time, however many machines fail at once. */
  async #readFailures(): Promise<void> {
    let read: number;
    do {
      read = this.#stuck;
      const found = await this.#stuckMachines();
      if (found === undefined) break;
      this.#failures = found;
      this.#draw();
    } while (read !== this.#stuck);
    this.#reading = undefined;
  }

  async #stuckMachines(): Promise<ShownFailure[] | undefined> {
    try {
      const pages = await Promise.all(
        (['parked', 'failed'] as const).map((state) =>
          answer(
            listBatchMachines({
              client: this.api,
              path: { id: this.batch.id },
              query: { state, limit: MAX_READ },
              signal: this.leaving,
            }),
          ),
        ),
      );
      return pages.flatMap(({ items }) =>
        items.map(({ login, name, state, error }) => ({
          login,
          machine: name,
          code: error?.code ?? state,
          reason: error?.message ?? 'no reason is known',
        })),
      );
    } catch (error) {
      // The event stream tells when the service is away, and the results name every failure.
      if (error instanceof HatcheryError) return undefined;
      throw error;
    }
  }
}
