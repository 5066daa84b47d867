/** What a timer can count; longer times fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
/** How long work may take to notice that its signal has ended. */
const GRACE_MS = 5_000;

/** The work did not end in its time. */
export class TimedOut extends Error {
  constructor(
    readonly timeoutMs: number,
    cause: unknown,
  ) {
    super(`it took longer than ${timeoutMs / 1000} s`, { cause });
  }
}

/**
 * Runs `work` under one signal that ends with any of `sources` or after `timeoutMs`, counted anew whenever it says that it `moved`, and leaves nothing behind:
 * `AbortSignal.any` would add a trace of every attempt to the worker's own signal for as long as the worker lives.
 * Work that does not notice the end is left to itself after `graceMs`: it can write no more, for every write asks its signal first.
 * Errors: `TimedOut`, the reason of the source that ended, or what `work` throws.
 */
export async function underSignal<T>(
  sources: readonly AbortSignal[],
  timeoutMs: number,
  work: (signal: AbortSignal, moved: () => void) => Promise<T>,
  graceMs = GRACE_MS,
): Promise<T> {
  const controller = new AbortController();
  const { signal } = controller;
  // Made when it is needed: its stack costs more than a step that does nothing.
  let late: DOMException | undefined;
  const timer = setTimeout(
    () => controller.abort((late = new DOMException(`not done after ${timeoutMs} ms`, 'TimeoutError'))),
    Math.min(timeoutMs, LONGEST_TIMER_MS),
  );
  const timers = [timer];
  const moved = (): void => {
    if (!signal.aborted) timer.refresh();
  };
  const links = sources.map((source) => ({ source, end: () => controller.abort(source.reason) }));
  const deaf = new Promise<never>((_, reject) =>
    signal.addEventListener('abort', () => timers.push(setTimeout(() => reject(signal.reason), graceMs))),
  );
  for (const { source, end } of links) {
    if (source.aborted) end();
    else source.addEventListener('abort', end);
  }
  try {
    return await Promise.race([work(signal, moved), deaf]);
  } catch (error) {
    throw late !== undefined && signal.reason === late ? new TimedOut(timeoutMs, error) : error;
  } finally {
    for (const timer of timers) clearTimeout(timer);
    for (const { source, end } of links) source.removeEventListener('abort', end);
  }
}
