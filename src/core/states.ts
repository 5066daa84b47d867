/** Every state and every allowed change of runs, steps and machines stands in this file, and nowhere else. */

export const RUN_STATES = ['queued', 'running', 'undoing', 'parked', 'done', 'failed', 'cancelled'] as const;
export type RunState = (typeof RUN_STATES)[number];

export const STEP_STATES = [
  'pending', 'ready', 'running', 'done', 'failed', 'parked', 'skipped', 'undoing', 'undone', 'undo-parked',
] as const; // prettier-ignore
export type StepState = (typeof STEP_STATES)[number];

export const MACHINE_STATES = [
  'reserved',
  'creating',
  'ready',
  'parked',
  'failed',
  'deleting',
  'deleted',
] as const;
export type MachineState = (typeof MACHINE_STATES)[number];

/** What the owner of a run wants in the end; set under the run's row lock, never set back. */
export type Wanted = 'done' | 'gone';

const RUN_CHANGES: Record<RunState, readonly RunState[]> = {
  queued: ['running', 'parked', 'undoing', 'cancelled'],
  running: ['done', 'parked', 'undoing', 'failed', 'cancelled'],
  parked: ['running', 'undoing', 'failed', 'cancelled'],
  undoing: ['parked', 'failed', 'cancelled'],
  // A delete of a ready run, or a guest found with our mark after the end, reopens the undo.
  done: ['undoing', 'cancelled'],
  failed: ['undoing', 'cancelled'],
  cancelled: ['undoing'],
};

const STEP_CHANGES: Record<StepState, readonly StepState[]> = {
  pending: ['ready', 'skipped'],
  ready: ['running', 'parked', 'skipped', 'undoing'],
  running: ['ready', 'done', 'failed', 'parked', 'skipped', 'undoing'],
  done: ['undoing'],
  failed: ['ready', 'undoing', 'skipped'],
  parked: ['ready', 'undoing', 'skipped'],
  skipped: ['undoing'],
  undoing: ['undone', 'undo-parked'],
  // What it made was removed, or a person let go of it.
  'undo-parked': ['undoing', 'undone'],
  undone: ['undoing'],
};

const MACHINE_CHANGES: Record<MachineState, readonly MachineState[]> = {
  reserved: ['creating', 'parked', 'failed', 'deleting', 'deleted'],
  creating: ['ready', 'parked', 'failed', 'deleting', 'deleted'],
  ready: ['deleting', 'deleted', 'parked'],
  parked: ['creating', 'ready', 'failed', 'deleting', 'deleted'],
  failed: ['deleting', 'deleted', 'parked'],
  deleting: ['deleted', 'parked', 'failed'],
  deleted: ['deleting'],
};

export const canRunChange = (from: RunState, to: RunState): boolean => RUN_CHANGES[from].includes(to);
export const canStepChange = (from: StepState, to: StepState): boolean => STEP_CHANGES[from].includes(to);
export const canMachineChange = (from: MachineState, to: MachineState): boolean =>
  MACHINE_CHANGES[from].includes(to);

/** The run has ended and holds nothing outside but what a ready machine is made of. */
export const isRunOver = (state: RunState): boolean =>
  state === 'done' || state === 'failed' || state === 'cancelled';

/** A machine that still holds its owner's name, VMID or MAC. */
export const isMachineLive = (state: MachineState): boolean => state !== 'deleted' && state !== 'failed';

/** The machine waits for nobody but a person or for nothing at all: the batch has come to rest at it. */
export const isMachineSettled = (state: MachineState): boolean =>
  state === 'ready' || state === 'parked' || state === 'failed' || state === 'deleted';

export type BatchState = 'working' | 'ready' | 'attention' | 'deleting' | 'deleted';

/** Machines of a batch counted by state; absent = 0. */
export type MachineCounts = Partial<Record<MachineState, number>>;

/** A batch has no state of its own: it is what its machines are. */
export function batchState(counts: MachineCounts): BatchState {
  const of = (state: MachineState): number => counts[state] ?? 0;
  if (of('reserved') + of('creating') > 0) return 'working';
  if (of('deleting') > 0) return 'deleting';
  if (of('parked') + of('failed') > 0) return 'attention';
  return of('ready') > 0 ? 'ready' : 'deleted';
}
