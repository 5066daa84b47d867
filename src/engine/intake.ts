import type { BatchPlan } from '../core/batch-plan.js';
import type { RosterRow } from '../core/roster/roster.js';

/** Who asks. Teachers reach only their own; foreign = `not-found`. */
export interface Actor {
  readonly userId: string;
  readonly login: string;
  readonly role: 'admin' | 'teacher';
}

export interface BatchRequest {
  /** A slug, unique among batches that are not deleted. */
  readonly name: string;
  readonly blueprint: string;
  readonly rows: readonly RosterRow[];
  /** Leaves out people who already have a live machine of this blueprint instead of refusing the roster. */
  readonly skipExisting: boolean;
  readonly notifyUrl?: string;
}

export interface Credential {
  readonly login: string;
  readonly machine: string;
  readonly user: string;
  readonly password: string;
}

/**
 * The door: everything that people ask of batches, machines and runs goes through here, in one transaction each.
 * `batch` is an id or a name. Errors carry the codes of the API.
 */
/** With the milliseconds until the last machine would be ready, were it created now; `undefined` = unknown. */
export type EstimatedPlan = BatchPlan & { readonly readyInMs: number | undefined };

export interface Intake {
  /** The preview of `create`: same rules, nothing written, nothing reserved. */
  plan(request: BatchRequest, actor: Actor): Promise<EstimatedPlan>;
  /** Rows, reservations and outbox in one transaction. The same key and content again gives the first answer; other content: `idempotency-mismatch`. */
  create(
    request: BatchRequest,
    actor: Actor,
    idempotencyKey: string | undefined,
  ): Promise<{ batchId: string; replayed: boolean }>;
  /** More machines for a batch, with its blueprint version. */
  addMachines(
    batch: string,
    request: Pick<BatchRequest, 'rows' | 'skipExisting'>,
    actor: Actor,
    idempotencyKey: string | undefined,
  ): Promise<{ batchId: string; replayed: boolean }>;
  /** Stops dispatch, lets running steps end, undoes what the batch made. */
  cancelBatch(batch: string, actor: Actor): Promise<void>;
  /** Undoes every machine; `batch-busy` while one is still being created. */
  deleteBatch(batch: string, actor: Actor): Promise<void>;
  deleteMachine(machineId: string, actor: Actor): Promise<void>;
  /** Makes the failed or parked steps of a run due again (forward or undo). */
  retryRun(runId: string, actor: Actor): Promise<void>;
  /** Generated passwords; the second call answers `not-applicable` (they are shown once), audited. */
  credentials(batch: string, actor: Actor): Promise<readonly Credential[]>;
}
