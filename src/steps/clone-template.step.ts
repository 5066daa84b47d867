import { z } from 'zod';
import { describeWithMark } from '../core/mark.js';
import type { OwnGuest } from '../ports/hypervisor.js';
import { defineStep, type StepPorts, type StepRun, type StepWait } from '../plan/step.js';
import { guestEffect } from './guest-effect.js';
import { guestLock, onMachine, templateOf, type OnMachine } from './machine-step.js';
import { makeGuest, type GuestMaking } from './make-guest.js';

/** Copies the pinned template into a new, stopped guest under our VMID, with our mark, in our pool. */
export const cloneTemplate = defineStep<OnMachine, { node: string; vmid: number }>({
  id: 'clone-template',
  version: 1,
  summary: 'Copy a template into a new, stopped machine',
  only: { kind: 'qemu', source: 'templates' },
  input: onMachine,
  output: z.strictObject({ node: z.string(), vmid: z.number().int() }),
  slots: ({ machine }) => [
    storageSlot(machine),
    `clones@node:${machine.cluster}/${templateOf(machine).node}`,
  ],
  locks: ({ machine }, at) => [guestLock(machine, at)],
  effects: ({ machine }, at) => [guestEffect(machine.cluster, at.vmid, machine.pool)],
  timeout: '30m',
  retry: { attempts: 6, first: '2s', max: '1m' },
  unskippable: 'every later step works on the guest that it makes',
  lateWrites:
    'A clone call that arrives late meets our own VMID: the cluster refuses it, or its guest carries our mark and is found.',
  act: ({ machine }, ports, run) =>
    cloneGuest({ machine }, ports, run, {
      tool: 'qm',
      lackOf: (guest) => lackOf(guest, templateOf(machine).disk),
      lackHint: 'Look at the template: each clone needs its disk and exactly one cloud-init drive.',
      waited: (wait) => run.waited(storageSlot(machine), wait),
    }),
});

/** Clones the machine's template, whatever its kind. */
export function cloneGuest(
  { machine }: OnMachine,
  ports: StepPorts,
  run: StepRun,
  how: Pick<GuestMaking, 'tool' | 'lackOf' | 'lackHint' | 'waited'>,
): Promise<{ node: string; vmid: number } | StepWait> {
  const hypervisor = ports.hypervisor(machine.cluster);
  const { identity, vmid } = run.machine;
  const mode = machine.clone ?? 'linked';
  const request = {
    kind: machine.kind,
    template: templateOf(machine),
    vmid,
    name: machine.name,
    node: machine.node,
    mode,
    storage: mode === 'full' ? machine.storage : undefined,
    description: describeWithMark(machine.description, run.mark()),
  };
  return makeGuest(hypervisor, run, {
    ...how,
    key: `clone-${vmid}`,
    words: { make: 'clone', made: 'cloned', noun: 'clone' },
    pool: machine.pool,
    send: (call) => hypervisor.startClone(request, call),
    resolve: (sinceMs, call) => hypervisor.traceClone(request, identity, sinceMs, call),
  });
}

/** Clones on one storage queue for its lock. */
function storageSlot(machine: OnMachine['machine']): string {
  const { cluster, node, storage } = machine;
  return `clones@storage:${cluster}/${templateOf(machine).storageShared ? storage : `${node}:${storage}`}`;
}

/** What is missing of a clone whose task ended well: it would not boot, or boot with the identity of its template. */
function lackOf({ disks, cloudInitDrives }: OwnGuest, mainDisk: string): string | undefined {
  if (disks[mainDisk]?.sizeGiB === undefined) return `it has no disk ${mainDisk}`;
  return cloudInitDrives === 1 ? undefined : `it has ${cloudInitDrives} cloud-init drives instead of one`;
}
