import { z } from 'zod';
import { defineStep } from '../plan/step.js';
import { cloneGuest } from './clone-template.step.js';
import { containerEffect } from './guest-effect.js';
import { guestLock, onMachine, templateOf, type OnMachine } from './machine-step.js';

/** Copies the pinned container template into a new, stopped container under our VMID, with our mark, in our pool. */
export const cloneContainer = defineStep<OnMachine, { node: string; vmid: number }>({
  id: 'clone-container',
  version: 1,
  summary: 'Copy a container template into a new, stopped container',
  only: { kind: 'lxc', source: 'templates' },
  input: onMachine,
  output: z.strictObject({ node: z.string(), vmid: z.number().int() }),
  // A clone locks its source for its whole length: of each copy of the template there is one at a time.
  slots: ({ machine }) => {
    const { vmid, node } = templateOf(machine);
    return [`clones@source:${machine.cluster}/${vmid}`, `clones@node:${machine.cluster}/${node}`];
  },
  locks: ({ machine }, at) => [guestLock(machine, at)],
  effects: ({ machine }, at) => [containerEffect(machine.cluster, at.vmid, machine.pool)],
  timeout: '30m',
  retry: { attempts: 6, first: '2s', max: '1m' },
  unskippable: 'every later step works on the container that it makes',
  lateWrites:
    'A clone call that arrives late meets our own VMID: the cluster refuses it, or its container carries our mark and is found.',
  act: ({ machine }, ports, run) =>
    cloneGuest({ machine }, ports, run, {
      tool: 'pct',
      lackOf: ({ disks }) => (disks['rootfs']?.sizeGiB === undefined ? 'it has no root disk' : undefined),
      lackHint: 'Look at the template: each clone needs its root disk.',
    }),
});
