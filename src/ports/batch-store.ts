import type { MachineInput } from '../core/machine.js';
import type { RosterRow } from '../core/roster/roster.js';
import type { RunChanges, StepRow } from './run-store.js';

/** What is promised in Postgres and therefore not free, whatever the cluster shows. */
export interface Promises {
  /** Names of live machines. */
  readonly names: ReadonlySet<string>;
  /** `loginKey` -> the batch that holds this person's live machine of the blueprint, and whose it is. */
  readonly people: ReadonlyMap<string, { readonly batch: string; readonly ownerId: string }>;
  readonly vmids: ReadonlySet<number>;
  readonly restingVmids: ReadonlySet<number>;
  /** Machines that are accepted but that the inventory may not show yet. */
  readonly unseen: readonly {
    readonly node: string;
    readonly storageKey: string;
    readonly memoryMiB: number;
    readonly cores: number;
    readonly diskGiB: number;
    /** VMID of the copy of its template; `undefined` = made from an archive. */
    readonly template: number | undefined;
  }[];
}

export interface NewMachine {
  readonly id: string;
  readonly runId: string;
  readonly row: number;
  readonly loginKey: string;
  readonly vmid: number;
  readonly input: MachineInput;
  readonly steps: readonly StepRow[];
  readonly changes: RunChanges;
}

/** A machine whose run failed and was undone: nothing of it is left but its rows. */
export interface FailedMachine {
  readonly runId: string;
  /** The person, as the roster gave it; `sshKeys` are those of the machine. */
  readonly row: RosterRow;
}

export interface NewBatch {
  readonly id: string;
  readonly name: string;
  readonly notifyUrl: string | undefined;
}

export interface BatchHead {
  readonly id: string;
  readonly name: string;
  readonly ownerId: string;
  readonly blueprint: string;
  readonly blueprintVersion: number;
  readonly cluster: string;
  readonly isDeleted: boolean;
}

export interface IdempotentRequest {
  readonly userId: string;
  readonly route: string;
  readonly key: string;
  /** sha256 over the parsed rows and fields. */
  readonly hash: string;
}

/** What people ask of batches, as transactions. A batch is named by id or name; a user id limits it to that owner. */
export interface BatchStore {
  findBatch(batch: string, ownerId: string | undefined): Promise<BatchHead | undefined>;
  /** The answer given before to this key; `idempotency-mismatch` when it was another request. */
  replay(request: IdempotentRequest): Promise<string | undefined>;
  promises(cluster: string, blueprint: string): Promise<Promises>;
  /**
   * One transaction with a constant number of statements: `compose` gets what is promised under the lock of the cluster's numbers and gives
   * the machines; rows, reservations, runs, steps, outbox, events, audit and the idempotency key follow.
   * Errors: `name-taken`, `idempotency-in-progress`, `idempotency-mismatch`, and what `compose` throws.
   */
  accept(
    request: {
      readonly batch: NewBatch | { readonly existing: BatchHead };
      readonly ownerId: string;
      readonly actor: string;
      readonly cluster: string;
      readonly blueprint: string;
      readonly blueprintVersionId: string;
      readonly workflowVersion: string;
      readonly idempotency: IdempotentRequest | undefined;
      /** Failed runs whose machines go with it. `not-applicable` when one of them is no longer failed. */
      readonly replaces?: readonly string[];
    },
    compose: (promises: Promises) => readonly NewMachine[],
  ): Promise<{ batchId: string; replayed: boolean }>;
  /** Marks every run of the batch `wanted = gone`. `batch-busy` when `onlyIfSettled` and a machine is still being created. */
  wantBatchGone(batch: BatchHead, actor: string, onlyIfSettled: boolean): Promise<void>;
  findMachine(
    machineId: string,
    ownerId: string | undefined,
  ): Promise<{ id: string; batchId: string; runId: string; name: string; state: string } | undefined>;
  wantMachineGone(machine: { id: string; name: string; runId: string }, actor: string): Promise<void>;
  findRun(runId: string, ownerId: string | undefined): Promise<{ id: string; batchId: string } | undefined>;
  /** Runs of a batch that wait for a person, in the order of the roster. */
  parkedRuns(batchId: string, code: string | undefined): Promise<readonly string[]>;
  /** Failed machines of a batch, in the order of the roster; of one cause or one run only. */
  failedOf(
    batchId: string,
    only: { readonly code?: string | undefined; readonly runId?: string },
  ): Promise<readonly FailedMachine[]>;
  /** The newest run of this person in the batch. */
  lastRunOf(batchId: string, login: string): Promise<string | undefined>;
  /** Generated passwords of ready machines that nobody was shown yet. */
  unshown(
    batch: BatchHead,
  ): Promise<readonly { login: string; machine: string; user: string; ref: string }[]>;
  /** Marks them shown, with an audit line. Gives those that nobody else marked in the meantime. */
  markShown(batch: BatchHead, refs: readonly string[], actor: string): Promise<ReadonlySet<string>>;
}
