import { z } from 'zod';
import { machineInput, type MachineInput } from '../core/machine.js';
import type { MachineSnapshot } from '../plan/step.js';

/** Input of every step that works on the one machine of a run. */
export const onMachine = z.strictObject({ machine: machineInput });
export interface OnMachine {
  readonly machine: MachineInput;
}

export const noOutput = z.strictObject({});

/** Name of the lock and of the guest in every message. */
export const guestLock = (machine: MachineInput, at: MachineSnapshot): string =>
  `guest:${machine.cluster}/${at.vmid}`;
