import { HatcheryError, type ErrorRecord } from '../core/errors.js';
import { plainCall } from '../ports/call.js';
import type { Breaker, EngineParts } from './engine.js';
import { passesByItself } from './pace.js';

/** Between two questions to a cluster that is out, milliseconds of a real cluster; anywhere in the second half. */
const GAP_MS = 5_000;
const LEAST_GAP_MS = 100;
const ANSWER_MS = 10_000;

/**
 * The circuit breaker of each cluster. A step that met a cluster without quorum, or that nobody could reach, makes this process ask the cluster
 * itself; if it agrees, dispatch to it stops for all processes (`ClusterStops`, reason `outage`). From then on its dispatcher alone asks, now
 * and then, with one small read, and lets work go on when the answer is good. What is in hand comes to its own end.
 */
export class OutageBreaker implements Breaker {
  private readonly nextMs = new Map<string, number>();

  constructor(private readonly parts: Pick<EngineParts, 'stops' | 'clock' | 'log' | 'random' | 'ports'>) {}

  async suspect(cluster: string, failure: ErrorRecord): Promise<void> {
    if (!concernsCluster(failure) || !this.isDue(cluster)) return;
    try {
      const error = await this.ask(cluster);
      if (error && (await this.parts.stops.stop(cluster, 'outage', outageOf(cluster, error))))
        this.parts.log.warn({ cluster, code: error.code }, 'a cluster is out: nothing is dispatched to it');
    } catch (error) {
      this.parts.log.warn({ cluster, err: error }, 'a cluster could not be stopped');
    }
  }

  async probe(cluster: string): Promise<boolean> {
    const { stops, log } = this.parts;
    // The order matters: only who has something to ask takes the turn to ask.
    if (!(await stops.holds(cluster, 'outage')) || !this.isDue(cluster)) return false;
    const error = await this.ask(cluster);
    if (error) {
      await stops.stop(cluster, 'outage', outageOf(cluster, error));
      return false;
    }
    const isLifted = await stops.lift(cluster, 'outage', 0);
    if (isLifted) log.info({ cluster }, 'a cluster is back: dispatch goes on');
    return isLifted;
  }

  private isDue(cluster: string): boolean {
    const { clock, ports, random } = this.parts;
    const now = clock.monotonicMs();
    if (now < (this.nextMs.get(cluster) ?? -Infinity)) return false;
    const gapMs = Math.max(LEAST_GAP_MS, GAP_MS * ports.remoteTimeScale);
    this.nextMs.set(cluster, now + gapMs * (0.5 + random() / 2));
    return true;
  }

  /** Why nothing can be written to the cluster; `undefined` = it can, or what it says is about something else. */
  private async ask(cluster: string): Promise<HatcheryError | undefined> {
    try {
      await this.parts.ports.hypervisor(cluster).probe(plainCall(AbortSignal.timeout(ANSWER_MS)));
      return undefined;
    } catch (error) {
      if (error instanceof HatcheryError) return concernsCluster(error) ? error : undefined;
      throw error;
    }
  }
}

/** Not a single node that is off, nor a job of somebody on one guest. */
const concernsCluster = ({ code, facts = {} }: Pick<ErrorRecord, 'code' | 'facts'>): boolean =>
  passesByItself({ code, message: '' }) &&
  facts['reason'] !== 'node-unreachable' &&
  facts['lock'] === undefined;

function outageOf(cluster: string, { code, message }: HatcheryError): ErrorRecord {
  return {
    code,
    message: `Unable to begin anything on cluster ${cluster}: ${message}`,
    hint: 'It is asked again every few seconds, and work goes on by itself. On one of its nodes: pvecm status',
    facts: { cluster },
  };
}
