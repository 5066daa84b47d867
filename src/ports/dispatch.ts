/** One hand-over of a step to a worker; `number` comes from Postgres and makes the queue's job id unique. */
export interface DispatchItem {
  readonly stepId: string;
  readonly number: number;
}

/** The queue. A hint only: whatever is lost here is found again in Postgres by the sweeper. */
export interface Dispatch {
  send(items: readonly DispatchItem[]): Promise<void>;
  /** Those of `items` that no longer wait in the queue. */
  missing(items: readonly DispatchItem[]): Promise<readonly DispatchItem[]>;
}

/** `outbox`: a step waits to be handed to the queue; `gone`: a run was marked `wanted = gone`; `work`: a slot came free, or is asked for;
 * `passed-on`: the queue gave a step to a worker that does not know it. */
export type WakeUpTopic = 'work' | 'outbox' | 'gone' | 'events' | 'passed-on';

/** Short messages between processes: something happened, look into Postgres. Losing one costs at most a tick. */
export interface WakeUps {
  notify(topic: WakeUpTopic): void;
  on(topic: WakeUpTopic, listener: () => void): () => void;
}
