import { expect, inject, it } from 'vitest';
import { scheduleOf } from '../../src/simulators/schedule.js';
import { runCampaign } from './campaign.js';
import { smallestWindow } from './window.js';

/** Everything at once, in one campaign: loading the processes that stand in for killed ones is most of what it costs. */
const SCHEDULE = scheduleOf(
  {
    faults: [
      { id: 'reset-before', match: { sim: 'proxmox', probability: 0.02 }, effect: 'reset' },
      { id: 'reset-after', match: { sim: 'proxmox', probability: 0.03 }, when: 'after', effect: 'reset' },
      { id: 'truncated', match: { sim: 'proxmox', probability: 0.02 }, when: 'after', effect: 'truncate', value: 20 },
      { id: 'never-connected', match: { sim: 'proxmox', probability: 0.015 }, effect: 'status', value: 595 },
      { id: 'no-answer', match: { sim: 'proxmox', probability: 0.015 }, when: 'after', effect: 'status', value: 596 },
    ],
    actions: [
      { do: 'kill', count: 20 },
      { do: 'flush', at: '30%' },
      { do: 'postgres', at: '50%', for: 1 },
    ],
  },
  'campaign.test.ts',
); // prettier-ignore

it('a class is made while workers die, Redis forgets, Postgres restarts and Proxmox fails', async () => {
  const campaign = await runCampaign({
    schedule: SCHEDULE,
    blueprints: ['student-desktop'],
    seed: '1',
    items: 60,
    workers: 3,
    timeScale: 0.15,
    makespanMs: 45_000,
    stateFolder: inject('stateFolder'),
  });
  const { verdict, complaints, figures } = campaign;
  const judged = {
    findings: verdict.findings,
    missing: verdict.missing,
    void: verdict.void,
    complaints,
    window: await smallestWindow(campaign),
  };
  expect(judged).toEqual({ findings: [], missing: [], void: [], complaints: [], window: [] });
  expect(figures.kills).toBe(20);
  // Whoever met too many faults in a row is parked, with everything that it has.
  expect(figures.shareReady).toBeGreaterThanOrEqual(0.95);
  await campaign.remove();
}, 900_000);
