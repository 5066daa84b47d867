import { z } from 'zod';
import { STEP_STATES } from '../../core/states.js';
import { pageOf } from './page.dto.js';
import { ProcessView } from './process.dto.js';

export const ReleasedView = z
  .object({
    id: z.uuid(),
    kind: z.string(),
    system: z.string(),
    key: z.string(),
    run: z.uuid(),
    machine: z.string(),
    batch: z.string(),
    releasedAt: z.iso.datetime(),
    by: z.string(),
    why: z.string(),
  })
  .meta({ id: 'ReleasedEffect' });
export const ReleasedPage = pageOf(ReleasedView).meta({ id: 'ReleasedEffectPage' });

const time = z.iso.datetime();
/** The run that something is held for. */
const held = {
  run: z.uuid(),
  step: z.string(),
  machine: z.string(),
  batch: z.string(),
};

export const LockView = z
  .object({
    name: z.string(),
    holder: z.string().describe('The process that holds it'),
    why: z.string(),
    since: time,
    /** Of the run that it is held for; null when it is held for none. */
    machine: z.string().nullable(),
  })
  .meta({ id: 'Lock' });
export const LockList = z
  .object({ items: z.array(LockView), nextCursor: z.string().nullable() })
  .meta({ id: 'LockList' });

export const SlotView = z
  .object({
    resource: z.string(),
    number: z.number().int(),
    since: time,
    ...held,
    state: z.enum(STEP_STATES),
    /** Who works on the step now; null = nobody: its remote task goes on by itself, or it waits for its next attempt. */
    by: ProcessView.nullable(),
  })
  .meta({ id: 'Slot' });
export const SlotPage = pageOf(SlotView).meta({ id: 'SlotPage' });

export const WorkerView = z
  .object({
    id: z.uuid(),
    host: z.string(),
    pid: z.number().int(),
    state: z
      .enum(['alive', 'draining', 'late', 'stopped'])
      .describe(
        'draining: takes no new step and ends when its hands are empty; late: its lease is over and nobody has buried it yet',
      ),
    startedAt: time,
    leaseUntil: time,
    stoppedAt: time.nullable(),
    steps: z.number().int().describe('Steps in its hands'),
    versions: z.array(z.string()).describe('What it knows to do and to undo'),
  })
  .meta({ id: 'Worker' });
export const WorkerPage = pageOf(WorkerView).meta({ id: 'WorkerPage' });

export const DoctorFinding = z.object({
  check: z.string(),
  verdict: z.enum(['ok', 'warning', 'failed']),
  detail: z.string(),
  remedy: z.string().nullable().describe('What to do, where it is not ok'),
});
export const DoctorReport = z
  .object({ verdict: z.enum(['ok', 'warning', 'failed']), at: time, findings: z.array(DoctorFinding) })
  .meta({ id: 'DoctorReport' });
