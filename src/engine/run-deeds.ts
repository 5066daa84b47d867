import { HatcheryError } from '../core/errors.js';
import { isRunOver } from '../core/states.js';
import type { MachineFacts } from '../plan/step.js';
import { outputsUsedBy } from '../plan/workflow.js';
import type { EffectRow, StepRow } from '../ports/run-store.js';
import { advance, undoAgain } from './run-advance.js';
import type { RunRows } from './run-rows.js';

/* What people do to a run. `RunModel` says what each is for. */

/** Who, and the reason that was given. */
export interface Person {
  readonly by: string;
  readonly why: string;
}

export function wantGone(rows: RunRows): void {
  const { run, machine } = rows.at;
  if (run.state === 'cancelled' || machine.state === 'deleted') return;
  run.wanted = 'gone';
  run.undoEndsAs = 'cancelled';
  rows.changes.run = true;
  rows.toMachine('deleting');
  for (const step of rows.at.steps) if (step.state === 'undo-parked') undoAgain(rows, step);
  advance(rows);
}

export function retry(rows: RunRows): number {
  const parked = rows.at.steps.filter((step) => step.state === 'parked' || step.state === 'undo-parked');
  const { run } = rows.at;
  if (parked.length === 0) return 0;
  run.deaths = 0;
  run.deathsAmong = 0;
  run.deathsAlone = 0;
  rows.changes.run = true;
  for (const step of parked) {
    if (step.state === 'undo-parked') undoAgain(rows, step);
    else if (run.wanted === 'done') {
      step.tries = 0;
      step.firstClaimedAtMs = undefined;
      rows.toStep(step, 'ready');
      step.slots = rows.slotsOf(step);
      rows.makeDue(step, 0);
    }
  }
  if (run.wanted === 'done') {
    // It runs still when a step beside the parked one is not over yet.
    rows.toRunIfNot('running');
    rows.toMachine('creating');
  }
  advance(rows);
  return parked.length;
}

export function skip(rows: RunRows, key: string): void {
  const step = rows.at.steps.find((row) => row.key === key);
  const { run } = rows.at;
  if (!step)
    throw new HatcheryError('not-found', `Unable to skip step ${key}: run ${run.id} has none of this name`, {
      hint: `Its steps: ${rows.at.steps.map((row) => row.key).join(', ')}`,
    });
  const refuse = (why: string, hint: string): HatcheryError =>
    new HatcheryError('not-applicable', `Unable to skip step ${key}: ${why}`, { hint });
  const look = `Look at it: hatchery run show ${run.id}`;
  if (run.wanted === 'gone')
    throw refuse(
      'its run is being undone, where nothing is skipped',
      `Let go of what cannot be removed instead: hatchery run release ${run.id} EFFECT --reason TEXT`,
    );
  if (step.state !== 'parked') throw refuse(`it is ${step.state}, and only a parked step is skipped`, look);
  const definition = rows.registry.steps.get(step.uses);
  if (definition?.version !== step.version)
    throw refuse(`this build does not know ${step.uses} version ${step.version}`, look);
  const goOn = `Mend its cause, then: hatchery run retry ${run.id}`;
  if (definition.unskippable !== undefined) throw refuse(definition.unskippable, goOn);
  const users = rows.at.plan.steps.filter((one) => outputsUsedBy(one).includes(key)).map((one) => one.key);
  const waiting = users.filter((user) => !rows.isPassed(user));
  if (waiting.length > 0)
    throw refuse(
      `${waiting.join(' and ')} ${waiting.length === 1 ? 'needs' : 'need'} what it finds out`,
      goOn,
    );
  step.error = undefined;
  rows.toStep(step, 'skipped');
  if (!rows.at.steps.some((row) => row.state === 'parked')) {
    rows.toRunIfNot('running');
    rows.toMachine('creating');
  }
  advance(rows);
}

export function releaseEffect(rows: RunRows, effectId: string, person: Person): void {
  const { effect, step } = judgeable(rows, effectId, 'release');
  const { run } = rows.at;
  if (run.wanted === 'done' && run.state !== 'done')
    throw new HatcheryError(
      'not-applicable',
      `Unable to release ${effect.kind} ${effect.key}: its run still makes the machine of it`,
      { hint: `Stop that first: hatchery run cancel ${run.id}` },
    );
  rows.letGo.add(effectId);
  rows.changes.judged.push({ effectId, as: 'let-go', ...person });
  if (step.state === 'undoing' || step.state === 'undo-parked') undoRest(rows, step);
  if (run.wanted === 'gone' && !isRunOver(run.state)) advance(rows);
}

function undoRest(rows: RunRows, step: StepRow): void {
  if (rows.effectsOf(step).length > 0) {
    if (step.state === 'undo-parked') undoAgain(rows, step);
    return;
  }
  step.dueAtMs = undefined;
  step.slots = undefined;
  step.error = undefined;
  rows.changes.freed.push(step.id);
  rows.toStep(step, 'undone');
}

export function adoptEffect(rows: RunRows, effectId: string, facts: MachineFacts, person: Person): void {
  judgeable(rows, effectId, 'adopt');
  rows.learn(facts);
  rows.changes.judged.push({ effectId, as: 'there', ...person });
}

function judgeable(
  rows: RunRows,
  effectId: string,
  verb: 'adopt' | 'release',
): { effect: EffectRow; step: StepRow } {
  const { run, effects } = rows.at;
  const effect = effects.find(({ id }) => id === effectId);
  if (!effect)
    throw new HatcheryError(
      'not-found',
      `Unable to ${verb} effect ${effectId}: run ${run.id} holds no such thing outside`,
      { hint: `What it holds: hatchery run show ${run.id}` },
    );
  const step = rows.step(effect.stepId);
  if (step.workerId !== undefined)
    throw new HatcheryError(
      'not-applicable',
      `Unable to ${verb} ${effect.kind} ${effect.key}: a worker is at it right now`,
      { hint: `Wait for the end of its attempt: hatchery run show ${run.id}` },
    );
  return { effect, step };
}
