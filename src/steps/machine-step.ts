import { z } from 'zod';
import { HatcheryError } from '../core/errors.js';
import { machineInput, type MachineInput } from '../core/machine.js';
import type { MachineSnapshot, StepPorts, StepRun } from '../plan/step.js';
import type { ContainerSettings, OwnGuest } from '../ports/hypervisor.js';
import type { Secret } from '../ports/secrets.js';

/** Input of every step that works on the one machine of a run. */
export const onMachine = z.strictObject({ machine: machineInput });
export interface OnMachine {
  readonly machine: MachineInput;
}

export const noOutput = z.strictObject({});

/** Name of the lock and of the guest in every message. */
export const guestLock = (machine: MachineInput, at: MachineSnapshot): string =>
  `guest:${machine.cluster}/${at.vmid}`;

/** The password that the first user of the machine is given; `undefined` = the blueprint asks for none. */
export async function firstPassword(
  { id, access }: MachineInput,
  { secrets }: Pick<StepPorts, 'secrets'>,
  run: StepRun,
): Promise<Secret | undefined> {
  if (access?.signIn !== 'generated') return undefined;
  const secretRef = await secrets.ensurePassword(id);
  run.learn({ secretRef });
  return secrets.reveal(secretRef);
}

/** Keeps where the guest is, and what tells it from another one, as far as that is known. */
export function learnGuest(
  run: StepRun,
  { node, incarnation }: Pick<OwnGuest, 'node' | 'incarnation'>,
): void {
  run.learn({ node, ...(incarnation !== undefined && { incarnation }) });
}

/** Only machines that are clones have one. */
export function templateOf({ name, template }: MachineInput): NonNullable<MachineInput['template']> {
  if (template !== undefined) return template;
  throw new HatcheryError('internal', `Unable to clone ${name}: its blueprint names no template`, {
    hint: 'Give the blueprint a workflow that unpacks its archive: create-container instead of a clone.',
  });
}

/** Settings of a container as its blueprint has them. */
export function containerSettings(machine: MachineInput, { mac }: MachineSnapshot): ContainerSettings {
  if (machine.container === undefined)
    throw new HatcheryError('internal', `Unable to configure ${machine.name}: it is no container`, {
      hint: 'Give its blueprint a workflow for virtual machines.',
    });
  return {
    ...machine.container,
    cores: machine.size.cores,
    memoryMiB: machine.size.memoryMiB,
    bridge: machine.network.bridge,
    vlan: machine.network.vlan,
    mac,
  };
}
