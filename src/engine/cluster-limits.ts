import { HatcheryError } from '../core/errors.js';
import { boundsOf } from '../core/slot-limit.js';
import type { SlotLimits } from '../ports/slots.js';
import { isMeasured } from './slot-dispatcher.js';

/** What people are told of one resource's slots. */
export interface ClusterLimit {
  readonly resource: string;
  /** Slots that it has now. */
  readonly limit: number;
  readonly rule: 'fixed' | 'lock-wait' | 'configured';
  readonly configured: number;
  /** Between which the limit moves by itself. */
  readonly bounds: { readonly min: number; readonly max: number };
  readonly inUse: number;
  readonly waiting: number;
  /** Mean wait for one lock since the last change, and of how many clones; `undefined` = nothing measured. */
  readonly lockWait: { readonly meanMs: number; readonly clones: number } | undefined;
  readonly why: string | undefined;
  readonly changedAtMs: number | undefined;
}

/** The limits of a cluster's slots, to look at and to set. A change counts within a second. */
export class ClusterLimits {
  constructor(
    private readonly limits: SlotLimits,
    private readonly configuredOf: (resource: string) => number,
  ) {}

  /** Only what was asked for at least once. */
  async list(cluster: string): Promise<readonly ClusterLimit[]> {
    const rows = await this.limits.list(cluster);
    return rows.map(({ resource, fixed, measured, inUse, waiting }) => {
      const configured = this.configuredOf(resource);
      const rule = fixed !== undefined ? 'fixed' : isMeasured(resource) ? 'lock-wait' : 'configured';
      const { count = 0, meanMs = 0 } = measured?.waits ?? {};
      return {
        resource,
        limit: fixed ?? measured?.limit ?? configured,
        rule,
        configured,
        bounds: isMeasured(resource) ? boundsOf(configured) : { min: configured, max: configured },
        inUse,
        waiting,
        lockWait: count === 0 ? undefined : { meanMs, clones: count },
        why: fixed === undefined ? measured?.why : 'fixed by a person',
        changedAtMs: fixed === undefined ? measured?.changedAtMs : undefined,
      };
    });
  }

  /** Errors: `not-found` for a resource that no step asked for yet; then nothing is changed. */
  async set(
    cluster: string,
    wanted: Readonly<Record<string, number | 'auto'>>,
    actor: string,
  ): Promise<void> {
    const limits = new Map(
      Object.entries(wanted).map(([resource, limit]) => [resource, limit === 'auto' ? undefined : limit]),
    );
    if (await this.limits.fix(cluster, limits, actor)) return;
    throw new HatcheryError(
      'not-found',
      `Unable to set the limits of ${cluster}: one of these resources is not known: ${[...limits.keys()].join(', ')}`,
      { hint: `hatchery cluster limits ${cluster} lists those that a step has asked for.` },
    );
  }
}
