import { z } from 'zod';
import { expected } from './expected.dto.js';
import { Counts } from './batches.dto.js';

/** The `data` of one server-sent event; `id` of the event is `seq`. */
export const EventView = z
  .object({
    v: z.literal(1),
    seq: z.number().int(),
    at: z.iso.datetime(),
    type: z.enum(['batch.progress', 'machine.state', 'step.state', 'step.progress']),
    batch: z.uuid().nullable(),
    machine: z.uuid().nullable(),
    run: z.uuid().nullable(),
    step: z.string().nullable(),
    state: z.string().nullable(),
    percent: z.number().int().nullable(),
    code: z.string().nullable(),
    data: z.object({ counts: Counts, ...expected }).optional(),
  })
  .meta({ id: 'Event' });

export const EventsQuery = z.strictObject({
  after: z.coerce
    .number()
    .int()
    .min(0)
    .optional()
    .describe('Id of the last event that you have; Last-Event-ID does the same'),
});

/** The header wins: a browser sends it when it comes back to the same address. */
export function lastEventId(header: string | undefined, after: number | undefined): number | undefined {
  return header !== undefined && /^[0-9]{1,15}$/.test(header) ? Number(header) : after;
}
