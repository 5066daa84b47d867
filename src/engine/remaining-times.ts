import type { Duration } from '../core/durations.js';
import { assumedSeconds } from '../core/estimate.js';
import type { MachineInput } from '../core/machine.js';
import {
  lastOf,
  meanOf,
  timesLeft,
  type StepAhead,
  type TimeLeft,
  type WorkAhead,
} from '../core/remaining.js';
import type { CompiledPlan } from '../plan/compiled-plan.js';
import type { Clock } from '../ports/clock.js';
import type { Durations } from '../ports/durations.js';
import type { LiveRun, LiveStep, WorkReads } from '../ports/work-reads.js';
import type { Registry } from '../plan/step.js';
import { plannedSteps, type PlannedStep } from './work-ahead.js';

/** When machines and batches at work are ready, in Unix milliseconds; `undefined` = unknown, missing = not at work. */
export interface ReadyTimes {
  readonly machines: ReadonlyMap<string, number | undefined>;
  readonly batches: ReadonlyMap<string, number | undefined>;
}

/** How old what was computed may be: it tells moments, which do not grow old fast. */
const KEPT_MS = 2_000;
/** Steps seen that say more than an assumption. */
const ENOUGH = 3;
const ASSUMED_SIGMA = 0.3;
const NO_TIME: Duration = { medianMs: 0, sigma: ASSUMED_SIGMA, count: 0, isUpperEnd: false };

/** A machine that is not accepted yet, or is at work. */
interface Candidate {
  readonly machine: string;
  readonly owner: string;
  readonly blueprint: string;
  readonly input: Pick<MachineInput, 'clone' | 'size' | 'template'> | undefined;
  readonly steps: readonly PlannedStep[];
  /** `undefined` = none of it has begun. */
  readonly live: LiveRun['steps'] | undefined;
}

/**
 * Remaining times by learned durations, current limits and everybody's work on a cluster. Computed for a whole cluster at once, for whoever
 * asks within two seconds; reads are three at most, whatever the number of machines.
 */
export class RemainingTimes {
  private readonly computed = new Map<string, { atMs: number; times: Promise<ReadyTimes> }>();
  /** By run: they do not change while it lives. */
  private readonly planned = new Map<string, Pick<Candidate, 'input' | 'steps'>>();

  constructor(
    private readonly parts: {
      readonly work: WorkReads;
      readonly durations: Pick<Durations, 'of'>;
      readonly registry: Pick<Registry, 'steps'>;
      readonly limitsOf: (cluster: string) => Promise<(slot: string) => number>;
      readonly remoteTimeScale: number;
      readonly clock: Clock;
    },
  ) {}

  /** Of everything at work on the cluster; computed anew when one of these batches, which are at work, is not known yet. */
  async of(cluster: string, batches: readonly string[]): Promise<ReadyTimes> {
    const known = this.computed.get(cluster);
    if (known && this.parts.clock.monotonicMs() - known.atMs < KEPT_MS) {
      const times = await known.times;
      if (batches.every((batch) => times.batches.has(batch))) return times;
    }
    const times = this.compute(cluster);
    this.computed.set(cluster, { atMs: this.parts.clock.monotonicMs(), times });
    times.catch(() => this.computed.delete(cluster));
    return times;
  }

  /** Milliseconds until machines with these inputs would be ready, were they accepted now; `undefined` = unknown. */
  async ofNew(batch: {
    readonly cluster: string;
    readonly owner: string;
    readonly blueprint: string;
    readonly workflow: CompiledPlan;
    readonly machines: readonly MachineInput[];
  }): Promise<number | undefined> {
    const mine = batch.machines.map((input): Candidate => ({
      machine: input.id,
      owner: batch.owner,
      blueprint: batch.blueprint,
      input,
      steps: plannedSteps(batch.workflow, { machine: input }, this.parts.registry),
      live: undefined,
    }));
    const others = await this.candidates(await this.parts.work.live(batch.cluster));
    const left = await this.left(batch.cluster, [...others, ...mine]);
    return lastLeft(mine.map(({ machine }) => left.get(machine)));
  }

  private async compute(cluster: string): Promise<ReadyTimes> {
    const runs = await this.parts.work.live(cluster);
    const nowMs = this.parts.clock.wallMs();
    const left = await this.left(cluster, await this.candidates(runs));
    const at = (ms: number | undefined): number | undefined => (ms === undefined ? undefined : nowMs + ms);
    const batches = new Map<string, string[]>();
    for (const { batchId, machineId } of runs)
      batches.set(batchId, [...(batches.get(batchId) ?? []), machineId]);
    return {
      machines: new Map([...left].map(([machine, time]) => [machine, at(time && meanOf(time))])),
      batches: new Map(
        [...batches].map(([batch, own]) => [batch, at(lastLeft(own.map((machine) => left.get(machine))))]),
      ),
    };
  }

  private async left(
    cluster: string,
    candidates: readonly Candidate[],
  ): Promise<ReadonlyMap<string, TimeLeft | undefined>> {
    const limitOf = await this.parts.limitsOf(cluster);
    const durations = new Map<string, Duration | undefined>();
    const work: WorkAhead[] = [];
    for (const one of candidates) {
      for (const step of one.steps) {
        const key = `${one.blueprint} ${step.key}`;
        if (!durations.has(key))
          durations.set(key, await this.durationOf(cluster, one, step, limitOf, candidates.length));
      }
      work.push({
        machine: one.machine,
        owner: one.owner,
        steps: stepsAhead(one, (step) => durations.get(`${one.blueprint} ${step.key}`)),
      });
    }
    return timesLeft(work, limitOf);
  }

  private async durationOf(
    cluster: string,
    { blueprint, input }: Candidate,
    step: PlannedStep,
    limitOf: (slot: string) => number,
    machines: number,
  ): Promise<Duration | undefined> {
    const learned = await this.parts.durations.of(cluster, blueprint, step.key);
    if (learned && learned.count >= ENOUGH) return learned.took;
    const { clone = 'linked', template, size } = input ?? {};
    const copies = Math.min(...step.slots.map(limitOf), machines);
    const assumed = assumedSeconds(
      step.uses,
      { clone, diskGiB: template?.diskGiB ?? size?.diskGiB ?? 0 },
      copies,
    );
    if (assumed === undefined) return undefined;
    const medianMs = assumed * 1_000 * this.parts.remoteTimeScale;
    return { medianMs, sigma: ASSUMED_SIGMA, count: 0, isUpperEnd: false };
  }

  private async candidates(runs: readonly LiveRun[]): Promise<readonly Candidate[]> {
    const live = new Set(runs.map(({ runId }) => runId));
    for (const runId of this.planned.keys()) if (!live.has(runId)) this.planned.delete(runId);
    const unknown = runs.filter(({ runId }) => !this.planned.has(runId));
    const inputs = await this.parts.work.inputs(unknown.map(({ runId }) => runId));
    for (const { runId, workflowVersion } of unknown) {
      const own = inputs.get(runId) ?? {};
      const plan = await this.parts.work.workflow(workflowVersion);
      this.planned.set(runId, {
        input: own['machine'] as MachineInput | undefined,
        steps: plannedSteps(plan, own, this.parts.registry),
      });
    }
    return runs.map(({ runId, machineId, ownerId, blueprint, steps }) => ({
      machine: machineId,
      owner: ownerId,
      blueprint,
      ...this.planned.get(runId)!,
      live: steps,
    }));
  }
}

function stepsAhead(
  { steps, live }: Candidate,
  durationOf: (step: PlannedStep) => Duration | undefined,
): StepAhead[] {
  const ahead = steps.filter(({ key }) => live === undefined || live.has(key));
  const places = new Map(ahead.map(({ key }, place) => [key, place]));
  return ahead.map((step) => ({
    needs: step.needs.flatMap((need) => places.get(need) ?? []),
    slots: step.slots,
    rank: step.rank,
    duration: step.isSkipped ? NO_TIME : durationOf(step),
    ...begunAs(live?.get(step.key)),
  }));
}

const begunAs = (step: LiveStep | undefined): Pick<StepAhead, 'sinceMs' | 'notBeforeMs'> => ({
  ...(step?.sinceMs === undefined ? {} : { sinceMs: step.sinceMs }),
  ...(step === undefined ? {} : { notBeforeMs: step.notBeforeMs }),
});

/** When all are ready; unknown when one of them is. */
function lastLeft(times: readonly (TimeLeft | undefined)[]): number | undefined {
  const known = times.filter((time) => time !== undefined);
  return known.length < times.length ? undefined : lastOf(known);
}
