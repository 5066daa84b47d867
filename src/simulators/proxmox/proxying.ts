import { Interrupted } from '../clock.js';
import type { JournalEntry } from '../journal.js';
import { Unheard } from '../operation.js';
import { SimProcess } from '../process.js';
import type { SimulatorContext } from '../context.js';
import { drawMs } from './durations.js';
import type { Handled, Route } from './pve.js';
import { failure, PveError } from './wire.js';
import { Workers } from './workers.js';

const WORKERS = 3;
const PROXY_LIMIT_MS = 30_000;
const SLICE_MS = 1_000;
/** Until a host that does not answer ARP counts as unreachable. */
const NO_ROUTE_MS = 3_000;

/** What runs the calls of one node until it dies: pveproxy what needs no root, pvedaemon the rest. */
class NodeWorkers {
  readonly proxy = new Workers(WORKERS);
  readonly daemon = new Workers(WORKERS);
  readonly running = new Set<SimProcess>();
  die: () => void = () => undefined;
  readonly death = new Promise<void>((resolve) => {
    this.die = resolve;
  });
}

/** The caller is told 596 while the work goes on; `late` is what it did in the end: nothing if it failed or died. */
export class GaveUp extends PveError {
  constructor(readonly late: Promise<Partial<JournalEntry>>) {
    super(596, 'Connection timed out', { empty: true });
  }
}

/** Carries a call to where it is executed: a worker of the node that its path names, reached from the node that got the request. */
export class Proxying {
  readonly #nodes: Map<string, NodeWorkers>;

  constructor(private readonly context: SimulatorContext) {
    this.#nodes = new Map(context.world.nodes.map(({ name }) => [name, new NodeWorkers()]));
  }

  /**
   * Runs `work` with the number of its worker. A call to another node, and one from pveproxy to the local pvedaemon, is given up after
   * 30 s (`GaveUp`) while the worker goes on; the wait for a free worker counts. `Interrupted` when the node that got the request dies.
   */
  async execute(
    route: Route,
    local: string,
    node: string,
    work: (worker: number) => Promise<Handled>,
  ): Promise<Handled> {
    const [workers, here] = [this.#nodes.get(node), this.#nodes.get(local)];
    if (!workers || !here)
      throw failure(
        `hostname lookup '${node}' failed - failed to get address info for: ${node}: Name or service not known`,
      );
    const { clock } = this.context;
    const isProtected = route.kind !== 'read';
    const over = new AbortController();
    try {
      if (node !== local) await clock.sleep(drawMs(this.context, 'proxied', route.op));
      if (this.context.world.conditions.nodesOff.has(node)) {
        await clock.sleep(NO_ROUTE_MS);
        throw new PveError(595, 'No route to host', { empty: true });
      }
      const pool = isProtected ? workers.daemon : workers.proxy;
      const result = pool.run((worker) => inProcess(workers, () => work(worker)));
      const dead = here.death.then(() =>
        Promise.reject(
          node === local
            ? new Interrupted(`node ${local} died`)
            : new Unheard(`node ${local} died`, this.#late(result, workers)),
        ),
      );
      if (node === local && !isProtected) return await Promise.race([result, dead]);
      const tooLong = this.#patience(over.signal).then(
        () => Promise.reject(new GaveUp(this.#late(result, workers))),
        () => new Promise<never>(() => undefined),
      );
      return await Promise.race([result, tooLong, dead]);
    } finally {
      over.abort();
    }
  }

  /** The node died: what its workers have in hand is never finished; when it is back it has new ones. */
  nodeDown(node: string): void {
    const workers = this.#nodes.get(node);
    if (!workers) return;
    this.#nodes.set(node, new NodeWorkers());
    for (const process of workers.running) process.kill();
    workers.die();
  }

  /** In slices, so that a moment in which this whole process stood still does not count as time in which only the caller waited. */
  async #patience(over: AbortSignal): Promise<void> {
    for (let waitedMs = 0; waitedMs < PROXY_LIMIT_MS; waitedMs += SLICE_MS)
      await this.context.clock.sleep(SLICE_MS, over);
  }

  async #late(result: Promise<Handled>, workers: NodeWorkers): Promise<Partial<JournalEntry>> {
    try {
      const handled = await Promise.race([result, workers.death]);
      return handled ? { ...handled.journal, ns: handled.journal?.ns ?? this.context.journal.now() } : {};
    } catch (error) {
      return { params: { error: error instanceof Error ? error.message : String(error) } };
    }
  }
}

async function inProcess(workers: NodeWorkers, work: () => Promise<Handled>): Promise<Handled> {
  const process = new SimProcess();
  workers.running.add(process);
  try {
    return await process.run(work);
  } finally {
    workers.running.delete(process);
  }
}
