import { describe, expect, it } from 'vitest';
import type { BatchPlan, BatchResults } from '../../client/types.gen.js';
import { planText } from './plan.js';
import { readyText } from './ready.js';
import { resultsText } from './results.js';

const item = (login: string, more: Partial<BatchResults['items'][number]> = {}): BatchResults['items'][number] => ({
  login, lastName: 'Nom', firstName: 'Prénom', machine: `vm-${login}`, vmid: 10_000, node: 'pve1', state: 'ready', ...more,
}); // prettier-ignore

const someResults: BatchResults = {
  batch: 'l3',
  counts: { total: 2, reserved: 0, creating: 0, ready: 1, parked: 1, failed: 0, deleting: 0, deleted: 0 },
  items: [
    item('ada', { address: '10.0.0.1', link: 'https://gateway/#/client/x' }),
    item('bob', { state: 'parked', code: 'address-unknown' }),
  ],
  causes: [
    {
      code: 'address-unknown',
      count: 1,
      sentence: 'No address: no \u001b[2Jlease.',
      advice: 'Do this.',
      next: 'hatchery run retry r1',
    },
  ],
};

describe('results', () => {
  it('are a line for each machine, then what failed by cause with the next command', () => {
    const lines = resultsText(someResults, 90).split('\n');
    expect(lines).toEqual([
      'login  machine   vmid  node  address   state   code',
      'ada    vm-ada   10000  pve1  10.0.0.1  ready',
      'bob    vm-bob   10000  pve1            parked  address-unknown',
      '',
      'l3: 1 of 2 ready, 1 parked',
      '1 x No address: no lease. (address-unknown)',
      '    Do this.',
      '    hatchery run retry r1',
      '',
    ]);
  });

  it('have every column where there is room, but none that is empty', () => {
    const [titles] = resultsText(someResults, undefined).split('\n');
    expect(titles).toMatch(/^login +lastName +firstName +machine +vmid +node +address +state +code +link$/);
  });
});

describe('a plan', () => {
  const aPlan: BatchPlan = {
    items: [
      { row: 2, login: 'ada', machine: 'vm-ada', vmid: 10_000, node: 'pve1', storage: 'ceph', verdict: 'ok' },
      { row: 3, login: 'bob', machine: 'vm-bob', verdict: 'conflict', reason: 'bob has one in l2' },
    ],
    capacity: [{ kind: 'node', name: 'pve1', freeMemoryMiB: 2048, plannedMachines: 1, fits: 0 }],
    vmids: { total: 100, free: 90, used: 9, resting: 1 },
    estimateSeconds: 75,
    expectedReadyAt: '2026-01-01T10:01:15.000Z',
    counts: { rows: 2, ok: 1, conflict: 1, noCapacity: 0 },
    notes: ['Column "room" is left out.'],
    refusal: {
      code: 'already-has-machine',
      detail: 'Unable to create: bob has one.',
      hint: 'Leave bob out.',
    },
  };

  it('shows machines, room, VMIDs and what create would say', () => {
    expect(planText(aPlan, undefined).split('\n')).toEqual([
      'row  login  machine   vmid  node  storage  verdict   reason',
      '  2  ada    vm-ada   10000  pve1  ceph     ok',
      '  3  bob    vm-bob                         conflict  bob has one in l2',
      '',
      'on         planned  fits            free  note',
      'node pve1        1     0  2.0 GiB memory',
      '',
      'VMIDs: 90 of 100 free, 9 used, 1 resting',
      '2 rows: 1 ok, 1 in conflict. VMIDs are provisional, nothing is reserved.',
      `Created now: ${readyText({ ...aPlan, remainingSeconds: 75 })}.`,
      'Column "room" is left out.',
      'create would refuse it: Unable to create: bob has one. (already-has-machine)',
      'Leave bob out.',
      '',
    ]);
  });
});
