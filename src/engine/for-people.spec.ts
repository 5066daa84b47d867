import { expect, it } from 'vitest';
import type { ErrorRecord } from '../core/errors.js';
import type { EffectRow, LoadedRun, StepRow } from '../ports/run-store.js';
import { causeOf, forPeople } from './for-people.js';

const effect = (seq: number, more: Partial<EffectRow>): EffectRow =>
  ({ seq, kind: 'guest', system: 'main', key: '101', state: 'confirmed', ...more }) as EffectRow;
const at = (effects: readonly EffectRow[]) => ({ run: { id: 'r1' }, effects }) as unknown as LoadedRun;
const step = { key: 'clone' } as StepRow;
const cause: ErrorRecord = {
  code: 'remote-refused',
  message: 'Unable to clone: no',
  hint: 'ask why',
  facts: { vmid: 101 },
};

it('names what is left outside, newest first, what is only perhaps there, and the command that goes on', () => {
  const effects = [
    effect(1, { kind: 'dhcp-filter', key: 'aa:bb', system: 'dhcp' }),
    effect(2, { state: 'intended' }),
  ];
  expect(forPeople(cause, at(effects), step)).toEqual({
    code: 'remote-refused',
    message: 'Unable to clone: no',
    hint: 'ask why. Left outside: guest 101 of main (perhaps), dhcp-filter aa:bb of dhcp. When it is mended: hatchery run retry r1',
    facts: {
      vmid: 101,
      step: 'clone',
      advice: 'ask why',
      left: ['guest 101 of main (perhaps)', 'dhcp-filter aa:bb of dhcp'],
    },
  });
});

it('says so when nothing is left, and names a command that is there already only once', () => {
  const { hint } = forPeople({ ...cause, hint: 'Look, then: hatchery run retry r1' }, at([]), step);
  expect(hint).toBe('Look, then: hatchery run retry r1. Nothing of it is left outside.');
});

it('shows the first of many', () => {
  const many = Array.from({ length: 10 }, (_, index) => effect(index, { key: String(index) }));
  expect(forPeople(cause, at(many), step).hint).toContain('guest 2 of main and 2 more.');
});

it('gives the cause back for others that would meet the same', () => {
  expect(causeOf(forPeople(cause, at([]), step))).toEqual(cause);
});
