import type { BootTimes } from '../core/ask-times.js';
import type { Duration } from '../core/durations.js';

/** What the newest runs of a blueprint on a cluster tell of one step. Wall-clock milliseconds of this deployment. */
export interface StepDurations {
  /** Steps counted since the beginning. */
  readonly count: number;
  /** At work, from its admission to its outcome; the time in a line for a slot is no part of it. */
  readonly took: Duration;
  /** When what the step waits for came, from its first attempt on: the step itself ends when it next looks. */
  readonly came: BootTimes;
}

/** Durations learned from finished steps. */
export interface Durations {
  /**
   * Cheap: kept in this process and read again every few seconds. `undefined` = nothing was counted yet, or the store does not answer:
   * nothing may depend on it.
   */
  of(cluster: string, blueprint: string, step: string): Promise<StepDurations | undefined>;
  /**
   * Counts steps that finished since the last call, in one bounded round; gives whether there are more. Each step counts once, whoever
   * calls; while one process is at it, others have nothing to do.
   */
  learn(): Promise<boolean>;
}
