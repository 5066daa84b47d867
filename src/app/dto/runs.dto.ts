import { z } from 'zod';
import { RUN_STATES, STEP_STATES } from '../../core/states.js';
import type { RunEntity } from '../../drivers/postgres/entities/run.entity.js';
import { failureView } from './failure.js';
import { pageOf, pageQuery } from './page.dto.js';
import { Failure } from './problem.dto.js';
import { id, plainText } from './text.js';

const time = z.iso.datetime();

export const RunView = z
  .object({
    id: z.uuid(),
    machine: z.object({ id: z.uuid(), name: z.string(), login: z.string() }),
    batch: z.object({ id: z.uuid(), name: z.string() }),
    state: z.enum(RUN_STATES),
    wanted: z.enum(['done', 'gone']),
    error: Failure.nullable(),
    createdAt: time,
    startedAt: time.nullable(),
    finishedAt: time.nullable(),
  })
  .meta({ id: 'Run' });
export type RunView = z.infer<typeof RunView>;
export const RunPage = pageOf(RunView).meta({ id: 'RunPage' });

export const ListRunsQuery = z.strictObject({
  ...pageQuery,
  batch: plainText(100).optional().describe('Id or name of a batch'),
  machine: id.optional(),
  state: z.enum(RUN_STATES).optional(),
  code: plainText(100).optional().describe('Code of the error that stopped the run'),
});

/** Why somebody does it: kept in the audit list. */
const reason = plainText(500).describe('Why; kept in the audit list');
export const StepKey = plainText(100);
/** A person's word on a step or an effect. */
export const WithReason = z
  .strictObject({ reason })
  .meta({ id: 'WithReason', example: { reason: 'done by hand on the server' } });
export const AdoptedView = z
  .object({ proof: z.string().describe('What was read on the remote side') })
  .meta({ id: 'Adopted' });

const attempt = z.object({
  epoch: z.number().int(),
  kind: z.enum(['act', 'undo']),
  startedAt: time,
  endedAt: time.nullable(),
  outcome: z.string().nullable(),
  error: Failure.nullable(),
  warnings: z.array(z.string()).describe('What succeeded, but not without a word'),
});
const step = z.object({
  id: z.uuid(),
  key: z.string(),
  uses: z.string(),
  state: z.enum(STEP_STATES),
  tries: z.number().int(),
  percent: z.number().int().nullable(),
  dueAt: time.nullable(),
  startedAt: time.nullable(),
  finishedAt: time.nullable(),
  error: Failure.nullable(),
  attempts: z.array(attempt),
});
const effect = z.object({
  id: z.uuid(),
  kind: z.string(),
  system: z.string(),
  key: z.string(),
  step: z.string(),
  shared: z.boolean(),
  state: z.enum(['intended', 'confirmed', 'undoing', 'undone']),
  intendedAt: time,
  confirmedAt: time.nullable(),
  undoneAt: time.nullable(),
});
export const RunDetail = RunView.extend({ steps: z.array(step), effects: z.array(effect) }).meta({
  id: 'RunDetail',
});
export type RunDetail = z.infer<typeof RunDetail>;

export const runView = (run: RunEntity): RunView => ({
  id: run.id,
  machine: { id: run.machine.id, name: run.machine.name, login: run.machine.login },
  batch: { id: run.batch.id, name: run.batch.name },
  state: run.state,
  wanted: run.wanted,
  error: failureView(run.state === 'parked' ? run.machine.error : run.error),
  createdAt: run.createdAt.toISOString(),
  startedAt: run.startedAt?.toISOString() ?? null,
  finishedAt: run.finishedAt?.toISOString() ?? null,
});
