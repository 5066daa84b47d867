import { z } from 'zod';
import { RUN_STATES, STEP_STATES } from '../../core/states.js';
import type { RunEntity } from '../../drivers/postgres/entities/run.entity.js';
import { failureView } from './failure.js';
import { pageOf, pageQuery } from './page.dto.js';
import { Failure } from './problem.dto.js';
import { ProcessView } from './process.dto.js';
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
  by: ProcessView.nullable().describe('The worker that made it; its log has the lines of the attempt'),
  task: z.string().nullable().describe('The remote task that failed in it'),
});
export type AttemptView = z.infer<typeof attempt>;
export const AttemptPage = pageOf(attempt.extend({ step: z.string() })).meta({ id: 'AttemptPage' });

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
  attempts: z.array(attempt).describe('The newest ten, and the one under way'),
  attemptCount: z.number().int().describe('All that have ended'),
  remote: z
    .array(z.object({ key: z.string(), since: time, task: z.string().nullable() }))
    .describe('Requests that may have been sent; task = the remote id, null while it is not known'),
  slots: z.array(z.object({ resource: z.string(), number: z.number().int(), since: time })),
  waitsFor: z
    .object({
      what: z.enum(['slot', 'group']),
      resources: z.array(z.string()),
      ahead: z.number().int().nullable().describe('Steps of the same owner that go before it'),
      inLine: z.number().int().nullable().describe('Steps of everybody that want the same, itself included'),
    })
    .nullable(),
});
const effect = z.object({
  id: z.uuid(),
  kind: z.string(),
  system: z.string(),
  key: z.string(),
  step: z.string(),
  shared: z.boolean(),
  state: z.enum(['intended', 'confirmed', 'undoing', 'undone', 'released']),
  intendedAt: time,
  confirmedAt: time.nullable(),
  undoneAt: time.nullable(),
  released: z.object({ at: time, by: z.string(), why: z.string() }).nullable(),
});
const deed = z.object({
  at: time,
  actor: z.string(),
  action: z.string(),
  what: z.string().nullable(),
  reason: z.string().nullable(),
});
export const RunDetail = RunView.extend({
  advice: z
    .object({ explanation: z.string(), advice: z.string(), next: z.string() })
    .nullable()
    .describe('Of a run that stands still'),
  steps: z.array(step),
  effects: z.array(effect),
  deeds: z.array(deed).describe('What people did to the run: the newest ten'),
}).meta({ id: 'RunDetail' });
export type RunDetail = z.infer<typeof RunDetail>;

export const TaskLogQuery = z.strictObject({
  task: z.string().min(1).max(300).describe('A task of the run, as its steps and attempts name it'),
});
export const TaskLogView = z
  .object({
    task: z.string(),
    lines: z.array(z.string()).describe('The last of them'),
    total: z.number().int().describe('How many there are in all'),
  })
  .meta({ id: 'TaskLog' });

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
