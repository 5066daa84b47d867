import type { Figures } from './campaign.js';

/** What the same takes when nobody disturbs it. */
export interface Reference {
  readonly makespanMs: number;
  readonly proxmoxCalls: number;
}

const SHARE_READY = 0.99;
const GOES_ON_P95_MS = 10_000;
const RESTART_MS = 10_000;
const REPLACED_MS = 1_000;
const AFTER_LAST_ACTION_MS = 5 * 60_000;
/** With a tenth of the requests failing. */
const FAULTS = { makespan: 2, calls: 2.5 } as const;

/** `p` from 0 to 1, nearest rank. 0 for no values. */
export function percentile(values: readonly number[], p: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(p * sorted.length) - 1))] ?? 0;
}

/** Which of the promised figures a campaign does not reach, in sentences. */
export function boundsMissed(schedule: string, figures: Figures, reference: Reference): string[] {
  const missed: string[] = [];
  const atMost = (what: string, value: number, bound: number): void => {
    if (value > bound) missed.push(`${what} is ${value.toFixed(2)}, at most ${bound} was promised`);
  };
  if (figures.shareReady < SHARE_READY)
    missed.push(`only ${(100 * figures.shareReady).toFixed(1)} % of the machines are ready`);
  // A database that is away holds everybody up: only kills alone show how fast one is noticed and replaced.
  if (schedule === 'kill')
    atMost(
      'ms until a step of a dead worker goes on elsewhere (p95)',
      percentile(
        figures.goneOn.map(({ ms }) => ms),
        0.95,
      ),
      GOES_ON_P95_MS,
    );
  if (schedule === 'kill')
    atMost('ms until a killed worker is replaced (p95)', percentile(figures.replacedMs, 0.95), REPLACED_MS);
  for (const { ms } of figures.restarts)
    atMost('ms from a restart of everything until every run is held', ms, RESTART_MS);
  atMost(
    'ms from the last action to the end',
    figures.afterLastActionMs,
    AFTER_LAST_ACTION_MS + figures.undisturbedRestMs,
  );
  if (schedule !== 'faults') return missed;
  atMost('makespan over undisturbed', figures.makespanMs / reference.makespanMs, FAULTS.makespan);
  atMost('calls over undisturbed', figures.proxmoxCalls / reference.proxmoxCalls, FAULTS.calls);
  return missed;
}
