import { z } from 'zod';

export const ProblemDetails = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.number().int(),
    code: z.string(),
    detail: z.string(),
    hint: z.string().optional(),
    errors: z
      .array(
        z.object({
          row: z.number().int().optional(),
          column: z.string().optional(),
          code: z.string(),
          detail: z.string(),
          hint: z.string().optional(),
        }),
      )
      .optional(),
    requestId: z.string().optional(),
  })
  .meta({ id: 'ProblemDetails' });

/** The short form of an error that a machine, run or step keeps. */
export const Failure = z
  .object({ code: z.string(), message: z.string(), hint: z.string().optional() })
  .meta({ id: 'Failure' });
