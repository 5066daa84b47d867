/** Durations come from `monotonicMs`; `wallMs` (Unix ms) is for people and for comparing with remote time stamps only. */
export interface Clock {
  monotonicMs(): number;
  wallMs(): number;
  /** Resolves after `ms`, or rejects with the signal's reason. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}
