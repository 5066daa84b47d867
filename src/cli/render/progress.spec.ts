import { describe, expect, it } from 'vitest';
import { textWidth } from '../../core/terminal-text.js';
import { clockText, nextFrame, plainProgress, progressLines, type BatchProgress } from './progress.js';

const aBatch = (more: Partial<BatchProgress> = {}): BatchProgress => ({
  batch: 'l3-info', goal: 'ready', counts: { total: 120, ready: 60, creating: 60 },
  elapsedSeconds: 30, readyText: 'ready at 10:42 (in 48 s)', failures: [], ...more,
}); // prettier-ignore
const aFailure = (login: string, reason = 'no answer') => ({
  login,
  machine: `vm-${login}`,
  code: 'address-unknown',
  reason,
});

describe('the bar of a batch', () => {
  it('shows what is ready, how far and how long', () => {
    expect(progressLines(aBatch(), { columns: 100 })).toEqual([
      'l3-info [███████████████░░░░░░░░░░░░░░░] 60/120 ready · 50 % · ready at 10:42 (in 48 s)',
    ]);
  });

  it('shows the first failures below it and counts the others', () => {
    const failures = ['a', 'b', 'c'].map((login) => aFailure(login));
    const counts = { total: 120, ready: 60, parked: 2, failed: 1 };
    expect(progressLines(aBatch({ counts, failures }), { columns: 120, maxFailures: 2 }).slice(1)).toEqual([
      '  a (vm-a): address-unknown: no answer',
      '  b (vm-b): address-unknown: no answer',
      '  and 1 more',
    ]);
    expect(progressLines(aBatch({ counts }), { columns: 120 })[0]).toContain('3 not ready');
  });

  it('is never wider than the screen, and gives up the bar before the numbers', () => {
    const failures = [aFailure('日本'.repeat(40), 'x'.repeat(200))];
    for (const columns of [10, 44, 60, 200]) {
      for (const line of progressLines(aBatch({ failures }), { columns }))
        expect(textWidth(line)).toBeLessThanOrEqual(columns);
    }
    expect(progressLines(aBatch(), { columns: 58 })[0]).toBe(
      'l3-info 60/120 ready · 50 % · ready at 10:42 (in 48 s)',
    );
  });

  it('lets no remote text control the terminal', () => {
    const failures = [aFailure('a', 'x\u001b[2J\r\ny')];
    expect(
      progressLines(aBatch({ failures, batch: 'b\u001b]0;t\u0007' }), { columns: 80 }).join(''),
    ).not.toMatch(/\p{Cc}/u);
  });

  it('has a plain form for terminals without UTF-8', () => {
    expect(progressLines(aBatch(), { columns: 100, isUtf8: false })[0]).toMatch(
      /^l3-info \[#{15}\.{15}\] 60\/120 ready, 50 %, ready at 10:42 \(in 48 s\)$/,
    );
  });

  it('shows the time taken when all have come to rest', () => {
    const counts = { total: 2, ready: 1, failed: 1 };
    expect(progressLines(aBatch({ counts, elapsedSeconds: 185 }), { columns: 80 })[0]).toContain(
      '1/2 ready · 50 % · 1 not ready · after 3:05',
    );
  });

  it('counts what is deleted while a batch is removed', () => {
    expect(
      progressLines(aBatch({ goal: 'deleted', counts: { total: 4, deleted: 1, deleting: 3 } }), {
        columns: 80,
      })[0],
    ).toContain('1/4 deleted · 25 %');
  });
});

describe('progress in a log', () => {
  it('is a line at the start, at each tenth and for each new failure, and nothing between', () => {
    const at = (ready: number, failures: BatchProgress['failures'] = []): BatchProgress =>
      aBatch({ counts: { total: 120, ready }, failures });
    expect(plainProgress(undefined, at(0))).toEqual(['l3-info: 0/120 ready, 0 %, ready at 10:42 (in 48 s)']);
    expect(plainProgress(at(0), at(11))).toEqual([]);
    expect(plainProgress(at(11), at(12))).toHaveLength(1);
    expect(plainProgress(at(12), at(13, [aFailure('a')]))).toEqual([
      'l3-info: a (vm-a): address-unknown: no answer',
    ]);
    expect(plainProgress(at(13, [aFailure('a')]), at(14, [aFailure('a')]))).toEqual([]);
  });
});

describe('a frame', () => {
  it('replaces the lines of the one before', () => {
    expect(nextFrame(0, ['a', 'b'])).toBe('a\nb\n');
    expect(nextFrame(2, ['c'])).toBe('\u001b[2A\u001b[Jc\n');
  });
});

it.each([[0, '0 s'], [59.4, '59 s'], [60, '1:00'], [185, '3:05'], [3720, '1:02:00']])('%d seconds read %s', (seconds, text) => {
  expect(clockText(seconds)).toBe(text);
}); // prettier-ignore
