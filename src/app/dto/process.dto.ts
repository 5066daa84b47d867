import { z } from 'zod';

/** A process of ours. */
export const ProcessView = z.object({ worker: z.uuid(), host: z.string(), pid: z.number().int() });
