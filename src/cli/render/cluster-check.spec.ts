import { expect, it } from 'vitest';
import { clusterCheckText } from './cluster-check.js';
import { styleFor } from './style.js';

const findings = [
  { ok: true, level: 'ok', subject: 'quorum', detail: 'the cluster has quorum' },
  {
    ok: true,
    level: 'warn',
    subject: 'storage ceph',
    detail: '3 of 99 GiB free',
    remedy: 'delete something',
  },
  {
    ok: false,
    level: 'fail',
    subject: 'pool lab',
    detail: 'not\u001b[2J there',
    remedy: 'pveum pool add lab',
  },
] as const;

it('shows the findings in columns, with the counts above and the remedy below each', () => {
  const text = clusterCheckText({ cluster: 'main', ok: false, findings: [...findings] }, styleFor(false));
  expect(text.split('\n')).toEqual([
    'main: not in order (1 wrong, 1 to look at, 1 ok)',
    '  ok     quorum        the cluster has quorum',
    '  LOOK   storage ceph  3 of 99 GiB free',
    '         -> delete something',
    expect.stringMatching(/^ {2}WRONG {2}pool lab {6}not.*there$/),
    '         -> pveum pool add lab',
    '',
  ]);
  expect(text).not.toContain('\u001b');
});

it('is in order when there is nothing but things to look at', () => {
  const text = clusterCheckText(
    { cluster: 'main', ok: true, findings: findings.slice(0, 2) },
    styleFor(false),
  );
  expect(text).toMatch(/^main: in order \(1 to look at, 1 ok\)\n/);
});
