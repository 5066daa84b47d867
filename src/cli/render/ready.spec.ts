import { expect, it } from 'vitest';
import { readyText } from './ready.js';

const now = new Date(2026, 9, 5, 10, 30, 0);
const after = (seconds: number): string => new Date(now.getTime() + seconds * 1000).toISOString();

it.each([
  [0, 'ready at 10:30 (in 0 s)'],
  [45, 'ready at 10:30 (in 45 s)'],
  [720, 'ready at 10:42 (in 12 min)'],
  [3_900, 'ready at 11:35 (in 1 h 5 min)'],
  [86_400, 'ready at 2026-10-06 10:30 (in 24 h 0 min)'],
])('what is ready in %d s reads %s', (seconds, text) => {
  expect(readyText({ expectedReadyAt: after(seconds), remainingSeconds: seconds }, now)).toBe(text);
});

it('says nothing when nothing is known', () => {
  expect(readyText({ expectedReadyAt: null, remainingSeconds: null })).toBeUndefined();
});
