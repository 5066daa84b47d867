import { describe, expect, it } from 'vitest';
import { readHookReport } from './hook-report.js';

describe('the report of a hook', () => {
  it.each([
    ['', { state: 'silent' }],
    ['nonsense\nprogress 400 much\n', { state: 'silent' }],
    ['progress 10 packages\nprogress 40 domain\n', { state: 'working', percent: 40, what: 'domain' }],
    ['progress 40 domain\nprogress 6', { state: 'working', percent: 40, what: 'domain' }],
    ['progress 40 domain\ndone\n', { state: 'done' }],
    ['progress 40 domain\nfailed no such realm\n', { state: 'failed', why: 'no such realm' }],
    ['failed no mirror\nprogress 10 packages\n', { state: 'working', percent: 10, what: 'packages' }],
    ['done\nnot ours\n', { state: 'done' }],
  ])('%j reads as %j', (text, report) => expect(readHookReport(text)).toEqual(report));

  it('is text of a guest: cut, without control sequences', () => {
    const report = readHookReport(`failed \u001b]8;;javascript:x\u0007click ${'x'.repeat(9000)}\n`);
    expect(report).toMatchObject({ state: 'failed' });
    const { why } = report as { why: string };
    expect(why.startsWith('click x')).toBe(true);
    expect(why).toHaveLength(300);
  });

  it('of any size is read from its end only', () => {
    expect(readHookReport(`${'progress 1 x\n'.repeat(100_000)}done\n`)).toEqual({ state: 'done' });
  });
});
