import { describe, expect, it } from 'vitest';
import {
  batchState, canMachineChange, canRunChange, canStepChange, isMachineLive, isMachineSettled, isRunOver, MACHINE_STATES, RUN_STATES, STEP_STATES,
} from './states.js'; // prettier-ignore

/** The states that can be reached from `start` by allowed changes. */
function reachable<S>(states: readonly S[], start: S, canChange: (from: S, to: S) => boolean): Set<S> {
  const found = new Set([start]);
  for (const from of found) for (const to of states) if (canChange(from, to)) found.add(to);
  return found;
}

describe('the table of states', () => {
  it('reaches every state from the first one', () => {
    expect(reachable(RUN_STATES, 'queued', canRunChange).size).toBe(RUN_STATES.length);
    expect(reachable(STEP_STATES, 'pending', canStepChange).size).toBe(STEP_STATES.length);
    expect(reachable(MACHINE_STATES, 'reserved', canMachineChange).size).toBe(MACHINE_STATES.length);
  });

  it('lets no run that is over work forward again', () => {
    for (const from of RUN_STATES.filter(isRunOver)) {
      expect(canRunChange(from, 'running') || canRunChange(from, 'queued')).toBe(false);
    }
    expect(canRunChange('undoing', 'done') || canRunChange('undoing', 'running')).toBe(false);
  });

  it('never leads from an undo back to the step', () => {
    for (const to of ['ready', 'running', 'done'] as const) {
      expect(
        canStepChange('undoing', to) || canStepChange('undone', to) || canStepChange('undo-parked', to),
      ).toBe(false);
    }
  });

  it('never brings a deleted machine back', () => {
    expect(MACHINE_STATES.filter((to) => canMachineChange('deleted', to))).toEqual(['deleting']);
    expect(MACHINE_STATES.filter(isMachineLive)).not.toContain('deleted');
    expect(MACHINE_STATES.filter((state) => !isMachineSettled(state))).toEqual([
      'reserved',
      'creating',
      'deleting',
    ]);
  });
});

describe('the state of a batch', () => {
  it.each([
    [{ ready: 119, creating: 1 }, 'working'],
    [{ ready: 119, reserved: 1, parked: 1 }, 'working'],
    [{ deleted: 119, deleting: 1 }, 'deleting'],
    [{ ready: 119, parked: 1 }, 'attention'],
    [{ ready: 119, failed: 1 }, 'attention'],
    [{ ready: 119, deleted: 1 }, 'ready'],
    [{ deleted: 120 }, 'deleted'],
    [{}, 'deleted'],
  ] as const)('of machines %j is %s', (counts, state) => {
    expect(batchState(counts)).toBe(state);
  });
});
