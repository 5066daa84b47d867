const two = (part: number): string => String(part).padStart(2, '0');

/**
 * When something will be ready: `ready at 10:42 (in 12 min)`, the time on the clock of this computer. `undefined` when that is unknown.
 * How long is the service's word: clocks differ.
 */
export function readyText(
  {
    expectedReadyAt,
    remainingSeconds,
  }: { expectedReadyAt?: string | null; remainingSeconds?: number | null },
  now = new Date(),
): string | undefined {
  if (expectedReadyAt == null || remainingSeconds == null) return undefined;
  const at = new Date(expectedReadyAt);
  const isToday = at.toDateString() === now.toDateString();
  const date = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} `;
  const time = `${two(at.getHours())}:${two(at.getMinutes())}`;
  return `ready at ${isToday ? '' : date}${time} (in ${spanText(remainingSeconds)})`;
}

/** Seconds as somebody says them who waits: `45 s`, `12 min`, `1 h 5 min`. */
function spanText(seconds: number): string {
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.ceil(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
