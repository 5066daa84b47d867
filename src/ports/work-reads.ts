import type { CompiledPlan } from '../plan/compiled-plan.js';

/** A run that is at work towards a ready machine. */
export interface LiveRun {
  readonly runId: string;
  readonly machineId: string;
  readonly batchId: string;
  readonly ownerId: string;
  readonly blueprint: string;
  readonly workflowVersion: string;
  /** Its steps that are not over, by key. */
  readonly steps: ReadonlyMap<string, LiveStep>;
}

export interface LiveStep {
  /** Milliseconds since it was admitted; `undefined` = it waits for its slots or for other steps. */
  readonly sinceMs: number | undefined;
  /** Milliseconds until it may begin, 0 = now. */
  readonly notBeforeMs: number;
}

/** What the store knows of the work of a cluster, whoever owns it. A constant number of reads whatever the number of machines. */
export interface WorkReads {
  /** In the order in which they were accepted. */
  live(cluster: string): Promise<readonly LiveRun[]>;
  /** Inputs of these runs, by run. */
  inputs(runIds: readonly string[]): Promise<ReadonlyMap<string, Readonly<Record<string, unknown>>>>;
  /** A workflow as runs were accepted with it. */
  workflow(version: string): Promise<CompiledPlan>;
}
