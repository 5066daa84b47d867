import { z } from 'zod';

/** When work will be done. `null` = nothing is known, or nothing is at work. */
export const expected = {
  remainingSeconds: z.number().int().nullable().describe('Until everything is ready; null when unknown'),
  expectedReadyAt: z.iso
    .datetime()
    .nullable()
    .describe('The moment at which everything is ready, by past runs and present lines; null when unknown'),
};
export interface ExpectedView {
  readonly remainingSeconds: number | null;
  readonly expectedReadyAt: string | null;
}

/** `readyAtMs`: Unix milliseconds. What should be ready by now is ready at any moment. */
export function expectedView(readyAtMs: number | undefined): ExpectedView {
  if (readyAtMs === undefined) return { remainingSeconds: null, expectedReadyAt: null };
  const nowMs = Date.now();
  const atMs = Math.max(nowMs, readyAtMs);
  return {
    remainingSeconds: Math.ceil((atMs - nowMs) / 1000),
    expectedReadyAt: new Date(atMs).toISOString(),
  };
}
