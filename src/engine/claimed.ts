import type { MachineInput } from '../core/machine.js';
import type { CompiledStep } from '../plan/compiled-plan.js';
import type { MachineFacts, MachineSnapshot } from '../plan/step.js';
import type { Call } from '../ports/call.js';
import type { EffectRow, HeldStep, LoadedRun, StepRow } from '../ports/run-store.js';
import type { EngineParts } from './engine.js';
import type { Hands } from './hands.js';
import type { WorkerLease } from './lease.js';
import type { Seat } from './meeting.js';
import { StaleHolder } from './stale-holder.js';

/** What an attempt knows from its claim. */
export interface Claimed {
  readonly held: HeldStep;
  readonly kind: 'act' | 'undo';
  readonly step: StepRow;
  readonly compiled: CompiledStep;
  readonly runId: string;
  /** Of the machine. */
  readonly cluster: string;
  readonly machine: MachineSnapshot;
  readonly effects: readonly EffectRow[];
  readonly nowMs: number;
  /** Never tried before, while the same step of another run is parked. */
  readonly isDoubtful: boolean;
  /** The run as the claim left it. */
  readonly loaded: LoadedRun;
}

/** The machine of a run, as steps and undos see it. */
export const machineOf = (
  deployment: string,
  { machine, run }: Pick<LoadedRun, 'machine' | 'run'>,
): MachineSnapshot => ({
  machineId: machine.id,
  vmid: machine.vmid,
  mac: machine.mac,
  node: machine.node,
  incarnation: machine.incarnation,
  identity: {
    deployment,
    machine: machine.id,
    vmid: machine.vmid,
    kind: kindOf(run),
    // Before its guest was read back, the node is only a plan.
    ...(machine.incarnation !== undefined && { node: machine.node }),
  },
  phoneHome: machine.phoneHome && { address: machine.phoneHome.address },
});

/** Runs that were accepted by an older build do not say it: theirs are virtual machines. */
const kindOf = ({ inputs }: LoadedRun['run']): 'qemu' | 'lxc' =>
  (inputs['machine'] as Partial<MachineInput> | undefined)?.kind ?? 'qemu';

/** Leave to go on with the next step of a run without the queue. */
export interface GoOn {
  readonly hands: Hands;
  readonly isAlone: boolean;
  readonly may: () => boolean;
}

/** One attempt in the hands of a worker. */
export interface Attempt {
  readonly parts: EngineParts;
  readonly lease: WorkerLease;
  readonly claimed: Claimed;
  /** Ends with the term of the lease under which the step was claimed. */
  readonly term: AbortSignal;
  /** The run as far as we know: undefined from the moment when the attempt wrote more of it than the run model knows. */
  inHand: LoadedRun | undefined;
  /** What the step has learned of its machine so far. */
  readonly facts: { -readonly [K in keyof MachineFacts]: MachineFacts[K] };
  /** What went well but not without a word; kept with the attempt. */
  readonly warnings: string[];
  /** Where it acts together with others; undefined = by itself. */
  readonly seat: Seat<unknown, unknown> | undefined;
  /** undefined = what comes next comes from the queue. */
  readonly goOn: GoOn | undefined;
}

/** The guard of every write: the lease is checked in the same turn in which the bytes leave. */
export function guardedCall({ parts, lease, claimed, warnings }: Attempt, signal: AbortSignal): Call {
  const at = { step: claimed.step.key, runId: claimed.runId };
  return {
    signal,
    beforeSend: () => {
      signal.throwIfAborted();
      if (lease.workerId !== claimed.held.workerId) throw new StaleHolder();
      lease.assertHeld();
      void parts.checkpoints
        .reach('K3', at)
        .catch((error: unknown) => parts.log.error({ err: error, ...at }, 'a checkpoint failed'));
    },
    onWarning: (text) => {
      if (!warnings.includes(text)) warnings.push(text);
    },
  };
}
