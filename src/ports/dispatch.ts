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

/** Short messages between processes: something happened, look into Postgres. Losing one costs at most a tick. */
export interface WakeUps {
  notify(topic: 'work' | 'outbox' | 'events'): void;
  on(topic: 'work' | 'outbox' | 'events', listener: () => void): () => void;
}
