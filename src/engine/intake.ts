import type { BatchPlan } from '../core/batch-plan.js';
import type { RosterRow } from '../core/roster/roster.js';

/** Who asks. Teachers reach only their own; foreign = `not-found`. */
export interface Actor {
  readonly userId: string;
  readonly login: string;
  readonly role: 'admin' | 'teacher';
}

/** Whose things somebody may reach: an id limits it to that owner. */
export const ownerOf = (actor: Actor): string | undefined =>
  actor.role === 'admin' ? undefined : actor.userId;

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

/** With the milliseconds until the last machine would be ready, were it created now; `undefined` = unknown. */
export type EstimatedPlan = BatchPlan & { readonly readyInMs: number | undefined };

/** Which machines of a batch are tried again: those that wait for a person, those that ended in failure, or both; of one cause only. */
export interface RetryWhat {
  readonly which: 'parked' | 'failed' | 'all';
  readonly code: string | undefined;
}

export interface Retried {
  /** Runs that go on where they stood. */
  readonly resumed: number;
  /** Machines that are made anew for people whose machine had failed. */
  readonly replaced: number;
}

/**
 * The door: everything that people ask of batches, machines and runs goes through here, in one transaction each.
 * `batch` is an id or a name. Errors carry the codes of the API.
 */
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
  /** Makes the parked steps of a run due again (forward or undo). A failed run is clean: its machine is made anew. Gives the run that goes on. */
  retryRun(runId: string, actor: Actor): Promise<string>;
  /** The same for a batch: parked runs one transaction each, failed machines all in one. `not-applicable` when there are none. */
  retryBatch(batch: string, what: RetryWhat, actor: Actor): Promise<Retried>;
  /** Generated passwords; the second call answers `not-applicable` (they are shown once), audited. */
  credentials(batch: string, actor: Actor): Promise<readonly Credential[]>;
}
