import { z } from 'zod';

const slots = z.number().int().min(1).max(1000);

export const LimitView = z
  .object({
    /** Such as `clones@storage:main/ceph`. */
    resource: z.string(),
    /** Slots that it has now. */
    limit: slots,
    /** `fixed` by a person, following the measured `lock-wait`, or as `configured`. */
    rule: z.enum(['fixed', 'lock-wait', 'configured']),
    configured: slots,
    /** Between which it moves by itself. */
    bounds: z.object({ min: slots, max: z.number().int().min(1) }),
    inUse: z.number().int(),
    /** Due steps that wait for a slot of it. */
    waiting: z.number().int(),
    /** Mean wait for one lock of the storage since the last change, and how many clones it was read from. */
    lockWait: z.object({ meanMs: z.number().int(), clones: z.number().int() }).nullable(),
    /** Why it is what it is. */
    why: z.string().nullable(),
    changedAt: z.iso.datetime().nullable(),
  })
  .meta({ id: 'Limit' });
export const LimitList = z
  .object({ items: z.array(LimitView), nextCursor: z.string().nullable() })
  .meta({ id: 'LimitList' });

export const SetLimitsRequest = z
  .strictObject({
    /** Slots by resource; `auto` = no longer fixed. */
    limits: z
      .record(z.string().min(1).max(200), z.union([slots, z.literal('auto')]))
      .refine((limits) => Object.keys(limits).length > 0, 'write at least one resource'),
  })
  .meta({ id: 'SetLimitsRequest', example: { limits: { 'clones@storage:main/ceph': 6 } } });
