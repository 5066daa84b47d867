import { z } from 'zod';
import { MACHINE_STATES, RUN_STATES } from '../../core/states.js';

const time = z.iso.datetime();

const beginning = z.object({
  row: z.literal('export'),
  v: z.literal(1),
  deployment: z.uuid(),
  name: z.string(),
  at: time.describe('The moment that every row below tells of'),
});
const machine = z.object({
  row: z.literal('machine'),
  id: z.uuid(),
  batch: z.string(),
  name: z.string(),
  login: z.string(),
  cluster: z.string(),
  node: z.string(),
  vmid: z.number().int(),
  mac: z.string(),
  address: z.string().nullable(),
  state: z.enum(MACHINE_STATES),
  code: z.string().nullable().describe('Why it is parked or failed'),
  run: z.uuid().nullable().describe('Its last run'),
});
const run = z.object({
  row: z.literal('run'),
  id: z.uuid(),
  machine: z.uuid(),
  batch: z.string(),
  state: z.enum(RUN_STATES),
  wanted: z.enum(['done', 'gone']),
  code: z.string().nullable(),
  createdAt: time,
  finishedAt: time.nullable(),
});
const effect = z.object({
  row: z.literal('effect'),
  id: z.uuid(),
  run: z.uuid(),
  step: z.string(),
  kind: z.string(),
  system: z.string(),
  key: z.string().describe('What it names there'),
  shared: z.boolean(),
  state: z
    .enum(['intended', 'confirmed', 'undoing', 'undone', 'released'])
    .describe('released: a person let go of it; it stays where it is'),
  holders: z.array(z.uuid()).describe('Machines that hold a shared one'),
});
const reservation = z.object({
  row: z.literal('reservation'),
  kind: z.string(),
  scope: z.string(),
  value: z.string(),
  machine: z.uuid().nullable(),
  releasedAt: time.nullable(),
  restUntil: time.nullable(),
  note: z.string().nullable(),
});
const ending = z.object({
  row: z.literal('end'),
  rows: z
    .number()
    .int()
    .describe(
      'Rows between the first and this one: without this row, or with another number, the export is cut off',
    ),
});

/** One line of an export. Nothing in it is secret. */
export const ExportRow = z
  .discriminatedUnion('row', [beginning, machine, run, effect, reservation, ending])
  .meta({ id: 'ExportRow' });
