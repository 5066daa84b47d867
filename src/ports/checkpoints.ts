/** The moments at which a test may stop or kill a worker (failures.md, K1-K10). */
export type KillPoint = 'K1' | 'K2' | 'K3' | 'K4' | 'K5' | 'K6' | 'K7' | 'K8' | 'K9' | 'K10';

export interface CheckpointFacts {
  readonly step?: string;
  readonly runId?: string;
}

/** No-op in production. `reach` may never resolve (the test kills the process) and may throw. */
export interface Checkpoints {
  reach(point: KillPoint, facts: CheckpointFacts): Promise<void>;
}

export const noCheckpoints: Checkpoints = { reach: async () => {} };
