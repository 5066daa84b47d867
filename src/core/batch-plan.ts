import type { Size } from './definitions.js';
import { HatcheryError, type ErrorCode, type Problem } from './errors.js';
import { assignNames, machineName } from './names.js';
import { place, type CapacityLine, type Placed, type PlacementRequest } from './placement.js';
import type { RosterRow } from './roster/roster.js';
import { countVmids, freeVmids, type VmidCounts, type VmidRange } from './vmids.js';

export type PlanVerdict = 'ok' | 'conflict' | 'no-capacity';

/** What would become of one row of the roster. */
export interface PlanItem {
  readonly row: number;
  readonly login: string;
  /** For a row in conflict: the name before any number is added. */
  readonly machine: string;
  /** Provisional: another batch may take it before this one is created. */
  readonly vmid?: number;
  readonly node?: string;
  readonly storage?: string;
  readonly storageShared?: boolean;
  /** VMID of the copy of the template that it is cloned from. */
  readonly template?: number;
  /** Volume of the archive that it is unpacked from. */
  readonly archive?: string;
  readonly verdict: PlanVerdict;
  /** Why this verdict; for `ok` why this node. */
  readonly reason?: string;
}

export interface BatchPlan {
  readonly items: readonly PlanItem[];
  readonly capacity: readonly CapacityLine[];
  readonly vmids: VmidCounts;
  /** What people should know besides. */
  readonly notes: readonly string[];
  readonly counts: {
    readonly rows: number;
    readonly ok: number;
    readonly conflict: number;
    readonly noCapacity: number;
  };
  /** Why create would refuse; absent = create would accept. */
  readonly refusal?: { readonly code: ErrorCode; readonly detail: string; readonly hint: string };
}

export interface BatchPlanRequest {
  readonly rows: readonly RosterRow[];
  readonly notes: readonly string[];
  readonly nameFrom: string;
  readonly size: Size;
  /** Names of live machines. */
  readonly takenNames: ReadonlySet<string>;
  /** `loginKey` -> name of the batch in which this person already has a live machine of this blueprint; `undefined` when it may not be told. */
  readonly existing: ReadonlyMap<string, string | undefined>;
  readonly skipExisting: boolean;
  readonly vmids: {
    readonly range: VmidRange;
    readonly used: ReadonlySet<number>;
    readonly resting: ReadonlySet<number>;
  };
  readonly placement: Omit<PlacementRequest, 'machines' | 'size'>;
}

/**
 * The preview of a create and its first half: the same rules decide both. Pure; writes and reserves nothing.
 * One item per row in row order. Rows in conflict get no machine; without `skipExisting` they refuse the whole roster.
 */
export function planBatch(request: BatchPlanRequest): BatchPlan {
  const wanted = request.rows.filter((row) => !request.existing.has(row.loginKey));
  const names = assignNames(wanted, request.nameFrom, request.takenNames);
  const used = new Set([...request.vmids.used, ...request.vmids.resting]);
  const vmids = freeVmids(request.vmids.range, used, wanted.length);
  const counts = countVmids(request.vmids.range, request.vmids.used, request.vmids.resting);
  const placement = place({ ...request.placement, size: request.size, machines: wanted.length });

  const made = new Map(
    wanted.map((row, index): [RosterRow, PlanItem] => [
      row,
      planRow(row, names[index]!, vmids[index], placement.machines[index]!, counts),
    ]),
  );
  const items = request.rows.map((row) => made.get(row) ?? conflictItem(row, request));
  const count = (verdict: PlanVerdict): number => items.filter((item) => item.verdict === verdict).length;
  const ok = count('ok');
  const refusal = findRefusal(items, request.skipExisting, wanted.length - vmids.length);
  return {
    items,
    capacity: placement.capacity,
    vmids: counts,
    notes: request.notes,
    counts: { rows: items.length, ok, conflict: count('conflict'), noCapacity: count('no-capacity') },
    ...(refusal === undefined ? {} : { refusal }),
  };
}

/** Throws what create answers for a plan that it does not accept; `problems` name the rows. */
export function requireAccepted(plan: BatchPlan): void {
  if (!plan.refusal) return;
  const problems = plan.items
    .filter((item) => item.verdict !== 'ok')
    .map((item): Problem => ({
      row: item.row,
      code: item.verdict === 'conflict' ? 'already-has-machine' : item.verdict,
      detail: item.reason ?? item.verdict,
    }));
  throw new HatcheryError(plan.refusal.code, `Unable to create the batch: ${plan.refusal.detail}`, {
    hint: plan.refusal.hint,
    problems,
  });
}

function planRow(
  row: RosterRow,
  machine: string,
  vmid: number | undefined,
  spot: Placed,
  counts: VmidCounts,
): PlanItem {
  const start = { row: row.row, login: row.login, machine };
  if (vmid === undefined) {
    return {
      ...start,
      verdict: 'no-capacity',
      reason: `The VMID range is used up (${counts.free} free, ${counts.resting} resting).`,
    };
  }
  if ('refused' in spot) return { ...start, verdict: 'no-capacity', reason: spot.refused };
  return { ...start, vmid, ...spot, verdict: 'ok' };
}

function conflictItem(row: RosterRow, request: BatchPlanRequest): PlanItem {
  const batch = request.existing.get(row.loginKey);
  const place = batch === undefined ? 'a batch of somebody else' : `batch ${batch}`;
  const reason = `${row.login} already has a machine of this blueprint in ${place}`;
  return {
    row: row.row,
    login: row.login,
    machine: machineName(request.nameFrom, row.login),
    verdict: 'conflict',
    reason: request.skipExisting ? `${reason}; left out.` : `${reason}.`,
  };
}

function findRefusal(
  items: readonly PlanItem[],
  skipExisting: boolean,
  missingVmids: number,
): BatchPlan['refusal'] {
  const conflicts = items.filter((item) => item.verdict === 'conflict').length;
  if (conflicts > 0 && !skipExisting) {
    return {
      code: 'already-has-machine',
      detail: `${conflicts} of ${items.length} people already have a machine of this blueprint.`,
      hint: 'Leave them out with --skip-existing (skipExisting), or remove their rows.',
    };
  }
  if (conflicts === items.length) {
    return {
      code: 'already-has-machine',
      detail: 'Nothing is left to create: everybody in the roster already has a machine of this blueprint.',
      hint: 'Check that this is the right roster and blueprint.',
    };
  }
  if (missingVmids > 0) {
    return {
      code: 'vmid-range-full',
      detail: `${missingVmids} VMIDs are missing in the range of the cluster.`,
      hint: 'Delete machines that are no longer needed, wait until resting VMIDs are free, or widen vmids in the cluster definition.',
    };
  }
  const refused = items.filter((item) => item.verdict === 'no-capacity');
  if (refused.length === 0) return undefined;
  return {
    code: 'no-capacity',
    detail: `${refused.length} of ${items.length} machines have no room. ${refused[0]?.reason ?? ''}`.trim(),
    hint: 'Choose a smaller size, free memory or disk on the cluster, or split the roster.',
  };
}
