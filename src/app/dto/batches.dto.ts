import { z } from 'zod';
import { slug } from '../../core/slug.js';
import { batchNameProblem } from '../../core/names.js';
import { MACHINE_STATES } from '../../core/states.js';
import { expected } from './expected.dto.js';
import { pageOf, pageQuery } from './page.dto.js';
import { plainText } from './text.js';

const batchState = z.enum(['working', 'ready', 'attention', 'deleting', 'deleted']);
const flag = z
  .enum(['true', 'false'])
  .default('false')
  .transform((value) => value === 'true');

const batchName = z.string().superRefine((name, context) => {
  const problem = batchNameProblem(name);
  if (problem) context.addIssue(`${problem.detail} ${problem.hint}`);
});

/** Text fields beside the roster file of a multipart form: every value arrives as text. */
const rosterFields = {
  blueprint: slug,
  name: batchName,
  skipExisting: flag,
};
export const PlanBatchFields = z.strictObject(rosterFields);
export const CreateBatchFields = z.strictObject({
  ...rosterFields,
  notifyUrl: z
    .url({ protocol: /^https?$/, error: 'write an http or https address' })
    .max(2000)
    .optional(),
});
export const AddMachinesFields = z.strictObject({ skipExisting: flag });

/** Machines of a batch by state; every state is there. */
const counts = z.object({
  total: z.number().int(),
  ...Object.fromEntries(MACHINE_STATES.map((state) => [state, z.number().int()])),
} as {
  total: z.ZodNumber;
} & Record<(typeof MACHINE_STATES)[number], z.ZodNumber>);
export const Counts = counts.meta({ id: 'MachineCounts' });

export const BatchView = z
  .object({
    id: z.uuid(),
    name: z.string(),
    owner: z.string(),
    blueprint: z.object({ name: z.string(), version: z.number().int() }),
    cluster: z.string(),
    state: batchState,
    counts: Counts,
    ...expected,
    createdAt: z.iso.datetime(),
    settledAt: z.iso.datetime().nullable(),
    deletedAt: z.iso.datetime().nullable(),
  })
  .meta({ id: 'Batch' });
export type BatchView = z.infer<typeof BatchView>;
export const BatchPage = pageOf(BatchView).meta({ id: 'BatchPage' });

export const ListBatchesQuery = z.strictObject({ ...pageQuery, deleted: flag });

export const BatchPlanView = z
  .object({
    items: z.array(
      z.object({
        row: z.number().int(),
        login: z.string(),
        machine: z.string(),
        vmid: z.number().int().optional(),
        node: z.string().optional(),
        storage: z.string().optional(),
        template: z.number().int().optional(),
        archive: z.string().optional(),
        verdict: z.enum(['ok', 'conflict', 'no-capacity']),
        reason: z.string().optional(),
      }),
    ),
    capacity: z.array(
      z.object({
        kind: z.enum(['node', 'storage']),
        name: z.string(),
        freeMemoryMiB: z.number().optional(),
        freeGiB: z.number().optional(),
        plannedMachines: z.number().int(),
        plannedMemoryMiB: z.number().optional(),
        plannedGiB: z.number().optional(),
        fits: z.number().int(),
        note: z.string().optional(),
      }),
    ),
    vmids: z.object({
      total: z.number().int(),
      free: z.number().int(),
      used: z.number().int(),
      resting: z.number().int(),
    }),
    estimateSeconds: z
      .number()
      .int()
      .nullable()
      .describe('Until the last machine would be ready, were they created now; null when unknown'),
    expectedReadyAt: expected.expectedReadyAt,
    counts: z.object({
      rows: z.number().int(),
      ok: z.number().int(),
      conflict: z.number().int(),
      noCapacity: z.number().int(),
    }),
    /** What was read in the roster that people may want to know, e.g. columns left out. */
    notes: z.array(z.string()),
    refusal: z.object({ code: z.string(), detail: z.string(), hint: z.string() }).optional(),
  })
  .meta({ id: 'BatchPlan' });

export const RetryBatchRequest = z
  .strictObject({
    which: z
      .enum(['parked', 'failed', 'all'])
      .default('all')
      .describe('parked: goes on where it stood; failed: is made anew, for it was undone'),
    code: plainText(100).optional().describe('Only those stopped by this error'),
  })
  .meta({ id: 'RetryBatch', example: { which: 'all' } });
export const RetriedView = z
  .object({
    resumed: z.number().int().describe('Parked machines that go on'),
    replaced: z.number().int().describe('Failed machines that are made anew'),
    batch: BatchView,
  })
  .meta({ id: 'RetriedBatch' });

export const ResultsQuery = z.strictObject({
  format: z.enum(['json', 'csv']).default('json').describe('csv answers text/csv with the same columns'),
});

export const ResultsView = z
  .object({
    batch: z.string(),
    counts: Counts,
    items: z.array(
      z.object({
        login: z.string(),
        lastName: z.string(),
        firstName: z.string(),
        email: z.string().optional(),
        group: z.string().optional(),
        machine: z.string(),
        vmid: z.number().int(),
        node: z.string(),
        address: z.string().optional(),
        link: z.string().optional(),
        state: z.enum(MACHINE_STATES),
        code: z.string().optional(),
        reason: z.string().optional(),
        next: z.string().optional(),
      }),
    ),
    causes: z.array(
      z.object({
        code: z.string(),
        count: z.number().int(),
        sentence: z.string(),
        advice: z.string().describe('What has to be done before the command helps'),
        next: z.string(),
      }),
    ),
  })
  .meta({ id: 'BatchResults' });

export const CredentialsView = z
  .object({
    items: z.array(
      z.object({ login: z.string(), machine: z.string(), user: z.string(), password: z.string() }),
    ),
  })
  .meta({ id: 'Credentials' });
