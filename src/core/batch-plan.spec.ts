import { describe, expect, it } from 'vitest';
import { planBatch, requireAccepted, type BatchPlan, type BatchPlanRequest } from './batch-plan.js';
import { HatcheryError } from './errors.js';
import type { RosterRow } from './roster/roster.js';

const aRow = (row: number, login: string): RosterRow => ({
  row,
  login,
  loginKey: login.toLowerCase(),
  lastName: '',
  firstName: '',
  sshKeys: [],
});

const aRequest = (logins: readonly string[], more: Partial<BatchPlanRequest> = {}): BatchPlanRequest => ({
  rows: logins.map((login, index) => aRow(index + 2, login)),
  notes: [],
  nameFrom: 'vm-{login}',
  size: { cores: 2, memoryMiB: 4096, diskGiB: 20 },
  takenNames: new Set(),
  existing: new Map(),
  skipExisting: false,
  vmids: { range: { from: 10_000, to: 10_099 }, used: new Set([10_000]), resting: new Set([10_001]) },
  placement: {
    source: {
      templates: [{ vmid: 9000, node: 'pve1', storage: 'ceph', storageShared: true, diskGiB: 8 }],
      clone: 'linked',
      oneCloneAtATime: false,
    },
    nodes: [
      { name: 'pve1', online: true, cores: 16, memoryTotalMiB: 21_504, memoryUsedMiB: 0, guestCores: 0 },
    ],
    storages: [{ id: 'ceph', node: undefined, shared: true, totalGiB: 1000, usedGiB: 0 }],
    reserved: { perNode: new Map(), perStorageGiB: new Map(), perTemplate: new Map() },
    exclude: { byCluster: [], byBlueprint: [] },
    pinned: undefined,
  },
  ...more,
});

function refusalOf(plan: BatchPlan): HatcheryError {
  try {
    requireAccepted(plan);
  } catch (error) {
    if (error instanceof HatcheryError) return error;
    throw error;
  }
  throw new Error('the plan was accepted');
}

describe('the plan of a batch', () => {
  it('has one item a row: name, provisional VMID that is neither used nor resting, node', () => {
    const plan = planBatch(aRequest(['ada', 'a.b', 'a-b']));
    expect(plan.items).toMatchObject([
      { row: 2, login: 'ada', machine: 'vm-ada', vmid: 10_002, node: 'pve1', storage: 'ceph', verdict: 'ok' },
      { row: 3, login: 'a.b', machine: 'vm-a-b', vmid: 10_003, node: 'pve1', storage: 'ceph', verdict: 'ok' },
      {
        row: 4,
        login: 'a-b',
        machine: 'vm-a-b-2',
        vmid: 10_004,
        node: 'pve1',
        storage: 'ceph',
        verdict: 'ok',
      },
    ]);
    expect(plan.counts).toEqual({ rows: 3, ok: 3, conflict: 0, noCapacity: 0 });
    expect(plan.vmids).toEqual({ total: 100, free: 98, used: 1, resting: 1 });
    expect(
      plan.capacity.map(({ kind, name, plannedMachines, fits }) => [kind, name, plannedMachines, fits]),
    ).toEqual([
      ['node', 'pve1', 3, 5],
      ['storage', 'ceph', 3, 50],
    ]);
    expect(() => requireAccepted(plan)).not.toThrow();
  });

  it('refuses the whole roster when somebody already has this machine in another batch, and names the batch', () => {
    const plan = planBatch(aRequest(['ada', 'Bob'], { existing: new Map([['bob', 'l3-spring']]) }));
    expect(plan.items.map(({ verdict }) => verdict)).toEqual(['ok', 'conflict']);
    expect(plan.items[1]).toEqual({
      row: 3, login: 'Bob', machine: 'vm-bob', verdict: 'conflict',
      reason: 'Bob already has a machine of this blueprint in batch l3-spring.',
    }); // prettier-ignore
    const refusal = refusalOf(plan);
    expect(refusal.code).toBe('already-has-machine');
    expect(refusal.hint).toContain('--skip-existing');
    expect(refusal.problems).toMatchObject([{ row: 3, code: 'already-has-machine' }]);
  });

  it('leaves such people out with skipExisting: no VMID, no room, no name is used for them', () => {
    const plan = planBatch(
      aRequest(['bob', 'b.ob', 'b-ob'], { existing: new Map([['b.ob', 'l3-spring']]), skipExisting: true }),
    );
    expect(plan.items.map(({ verdict, vmid, machine }) => [verdict, vmid, machine])).toEqual([
      ['ok', 10_002, 'vm-bob'],
      ['conflict', undefined, 'vm-b-ob'],
      ['ok', 10_003, 'vm-b-ob'],
    ]);
    expect(plan.items[1]?.reason).toContain('left out');
    expect(plan.counts).toEqual({ rows: 3, ok: 2, conflict: 1, noCapacity: 0 });
    expect(() => requireAccepted(plan)).not.toThrow();
  });

  it('refuses to create nothing at all', () => {
    const existing = new Map([['ada', 'l3-spring']]);
    expect(refusalOf(planBatch(aRequest(['ada'], { existing, skipExisting: true }))).code).toBe(
      'already-has-machine',
    );
  });

  it('refuses what has no room, and says where it ends', () => {
    const plan = planBatch(aRequest(['a', 'b', 'c', 'd', 'e', 'f']));
    expect(plan.counts).toEqual({ rows: 6, ok: 5, conflict: 0, noCapacity: 1 });
    expect(plan.items[5]).toMatchObject({
      login: 'f',
      machine: 'vm-f',
      verdict: 'no-capacity',
      reason: expect.stringContaining('pve1: 0 of 4096 MiB'),
    });
    expect(plan.items[5]).not.toHaveProperty('vmid');
    const refusal = refusalOf(plan);
    expect(refusal.code).toBe('no-capacity');
    expect(refusal.problems).toMatchObject([{ row: 7, code: 'no-capacity' }]);
  });

  it('refuses when the VMID range is too small', () => {
    const vmids = { range: { from: 100, to: 102 }, used: new Set([100]), resting: new Set([101]) };
    const plan = planBatch(aRequest(['a', 'b', 'c'], { vmids }));
    expect(plan.items.map(({ verdict, vmid }) => [verdict, vmid])).toEqual([['ok', 102], ['no-capacity', undefined], ['no-capacity', undefined]]); // prettier-ignore
    expect(refusalOf(plan)).toMatchObject({
      code: 'vmid-range-full',
      message: expect.stringContaining('2 VMIDs are missing'),
    });
  });
});
