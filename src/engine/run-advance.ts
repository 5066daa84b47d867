import type { CompiledStep } from '../plan/compiled-plan.js';
import { evaluate, isTruthy } from '../plan/expression.js';
import type { StepRow } from '../ports/run-store.js';
import { inputOf, leaveGroup, type RunRows } from './run-rows.js';

/** Makes due what may run next, forward or back, and closes the run when nothing is left. */
export function advance(rows: RunRows): void {
  if (rows.at.run.wanted === 'gone') advanceUndo(rows);
  else advanceForward(rows);
}

function advanceForward(rows: RunRows): void {
  for (let moved = true; moved;) {
    moved = false;
    for (const compiled of rows.at.plan.steps) {
      const step = rows.byKey(compiled.key);
      if (step.state !== 'pending' || !compiled.needs.every((need) => rows.isPassed(need))) continue;
      moved = true;
      enter(rows, step, compiled);
    }
  }
  const states = rows.at.steps.map((step) => step.state);
  if (rows.at.plan.steps.every((compiled) => rows.isPassed(compiled.key))) {
    rows.toRun('done');
    rows.toMachine('ready');
  } else if (!states.includes('ready') && !states.includes('running') && states.includes('parked'))
    rows.toRunIfNot('parked');
}

function enter(rows: RunRows, step: StepRow, compiled: CompiledStep): void {
  const scope = rows.scope();
  if (compiled.if !== undefined && !isTruthy(evaluate(compiled.if, scope))) {
    rows.toStep(step, 'skipped');
    return;
  }
  step.input = inputOf(compiled, scope);
  rows.toStep(step, 'ready');
  step.slots = rows.slotsOf(step);
  rows.makeDue(step, 0);
}

function advanceUndo(rows: RunRows): void {
  dropForward(rows);
  const { steps } = rows.at;
  if (steps.some((step) => step.state === 'running' || step.state === 'undoing')) return;
  if (steps.some((step) => step.state === 'undo-parked')) return rows.toRunIfNot('parked');
  const newest = rows.effects.toSorted((a, b) => b.seq - a.seq)[0];
  if (newest !== undefined) return undoAgain(rows, rows.step(newest.stepId));
  const endsAs = rows.at.run.undoEndsAs ?? 'cancelled';
  rows.toRunIfNot(endsAs);
  rows.toMachine(
    endsAs === 'failed' ? 'failed' : 'deleted',
    endsAs === 'failed' ? rows.at.run.error : undefined,
  );
  rows.changes.released = true;
}

/** What has not begun never will, and what is left of the rest is its undo: nobody waits for their slots. */
function dropForward(rows: RunRows): void {
  for (const step of rows.at.steps) {
    if (step.state !== 'pending' && step.state !== 'ready' && step.state !== 'parked') continue;
    // What a last request may still do outside is followed by the undo of what the step made, and by nobody else.
    const isUndone = rows.effectsOf(step).length > 0;
    if (!isUndone || !rows.isUnsure(step) || step.groupKey !== undefined) rows.free([step]);
    step.dueAtMs = undefined;
    step.slots = undefined;
    leaveGroup(step);
    if (isUndone) rows.dirty(step);
    else rows.toStep(step, 'skipped');
  }
}

export function undoAgain(rows: RunRows, step: StepRow): void {
  rows.toRunIfNot('undoing');
  rows.toMachine('deleting');
  step.tries = 0;
  step.firstClaimedAtMs = undefined;
  // A slot that a request of the step itself may still need stays its own, and is not asked for a second time.
  const isGrouped = rows.registry.steps.get(step.uses)?.coalesce !== undefined;
  const kept = rows.isUnsure(step) && !isGrouped ? (rows.slotsOf(step) ?? []) : [];
  if (kept.length === 0) rows.free([step]);
  rows.toStep(step, 'undoing');
  const wanted = (rows.slotsOf(step) ?? []).filter((slot) => !kept.includes(slot));
  step.slots = wanted.length === 0 ? undefined : wanted;
  rows.makeDue(step, settleWait(rows, step));
}

/** A request that may still be on its way has to arrive before "nothing is there" can be believed. */
function settleWait(rows: RunRows, step: StepRow): number {
  const isOpen = rows.effectsOf(step).some((effect) => effect.state === 'intended');
  return isOpen ? Math.max(0, rows.unsureUntilMs(step) - rows.at.nowMs) : 0;
}
