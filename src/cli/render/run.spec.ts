import { describe, expect, it } from 'vitest';
import type { RunDetail } from '../../client/types.gen.js';
import { runText } from './run.js';

const RUN = '01994a3e-0000-7000-8000-000000000001';
const AT = '2026-01-01T10:00:00.000Z';
type Step = RunDetail['steps'][number];

const step = (key: string, state: Step['state'], more: Partial<Step> = {}): Step => ({
  id: RUN,
  key,
  uses: key,
  state,
  tries: 0,
  percent: null,
  dueAt: null,
  startedAt: AT,
  finishedAt: null,
  error: null,
  attempts: [],
  attemptCount: 0,
  remote: [],
  slots: [],
  waitsFor: null,
  ...more,
});

const run = (more: Partial<RunDetail>): RunDetail => ({
  id: RUN,
  machine: { id: RUN, name: 'vm-ada', login: 'ada' },
  batch: { id: RUN, name: 'l3' },
  state: 'running',
  wanted: 'done',
  error: null,
  createdAt: AT,
  startedAt: AT,
  finishedAt: null,
  advice: null,
  steps: [],
  effects: [],
  deeds: [],
  ...more,
});

const parked = {
  state: 'parked',
  error: { code: 'remote-refused', message: 'Unable to start', hint: 'See its log.' },
  advice: { explanation: 'It said no.', advice: 'Mend it.', next: `hatchery run retry ${RUN}` },
} as const;

describe('a run for people', () => {
  it('that is parked says why, what that means, and each way out', () => {
    const text = runText(run({ ...parked, steps: [step('start', 'parked')] }), [], undefined);
    expect(text).toContain(
      [
        'Unable to start (remote-refused)',
        'It said no.',
        'Mend it.',
        'See its log.',
        `    hatchery run retry ${RUN}`,
        `    hatchery run skip ${RUN} start --reason TEXT`,
        `    hatchery run cancel ${RUN}`,
      ].join('\n'),
    );
  });

  it('whose undo is parked names the effect that stands in the way, and offers no skip', () => {
    const effect = (id: string, of: string, state: 'confirmed' | 'undone') => ({
      id, kind: 'guest', system: 'main', key: '101', step: of, shared: false, state,
      intendedAt: AT, confirmedAt: AT, undoneAt: null, released: null,
    }); // prettier-ignore
    const text = runText(
      run({
        ...parked,
        wanted: 'gone',
        steps: [step('clone', 'undo-parked'), step('allow-mac', 'done')],
        effects: [
          effect('e1', 'clone', 'confirmed'),
          effect('e2', 'clone', 'undone'),
          effect('e3', 'allow-mac', 'confirmed'),
        ],
      }),
      [],
      undefined,
    );
    expect(text).toContain(`    hatchery run adopt ${RUN} e1 --reason TEXT`);
    expect(text).toContain(`    hatchery run release ${RUN} e1 --reason TEXT`);
    expect(text).not.toMatch(/run (skip|cancel)/);
  });

  it('that waits says for what, and who goes before it', () => {
    const waitsFor: Step['waitsFor'] = {
      what: 'slot',
      resources: ['clones@storage:main/ceph'],
      ahead: 3,
      inLine: 9,
    };
    expect(runText(run({ steps: [step('clone', 'ready', { waitsFor })] }), [], undefined)).toContain(
      'clone waits for a slot of clones@storage:main/ceph: 3 of its owner before it, 9 in line',
    );
  });

  it('never controls the terminal by the words of a remote log', () => {
    const log = { task: 'UPID:x', lines: ['\u001b[2Jevil'], total: 1 };
    // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
    expect(runText(run({}), [log], undefined)).not.toMatch(/\u001b/);
  });
});
