/**
 * What every call to a remote system gets from the engine.
 * `signal` ends waiting (time-out, cancel, lost lease or lock). `beforeSend` is the driver's last synchronous act before the bytes of
 * a WRITE leave: it throws when the worker's lease is over, and tells the checkpoints that the request is on its way.
 * Reads do not call it.
 */
export interface Call {
  readonly signal: AbortSignal;
  readonly beforeSend: () => void;
  /** What succeeded, but not without a word that a person may want to see; kept with the attempt. */
  readonly onWarning?: (text: string) => void;
}

/** A call outside a step (plan, cluster check, tests): no lease to guard. */
export function plainCall(signal: AbortSignal = new AbortController().signal): Call {
  return { signal, beforeSend: () => signal.throwIfAborted() };
}
