import { z } from 'zod';
import { HatcheryError } from '../core/errors.js';
import { describeWithMark } from '../core/mark.js';
import type { MachineInput } from '../core/machine.js';
import type { OwnGuest } from '../ports/hypervisor.js';
import { defineStep } from '../plan/step.js';
import { containerEffect } from './guest-effect.js';
import { containerSettings, firstPassword, guestLock, onMachine, type OnMachine } from './machine-step.js';
import { makeGuest } from './make-guest.js';

/** Unpacks the archive into a new, stopped, unprivileged container that has all of its settings. */
export const createContainer = defineStep<OnMachine, { node: string; vmid: number }>({
  id: 'create-container',
  version: 1,
  summary: 'Make a new, stopped container from its archive, with all of its settings',
  only: { kind: 'lxc', source: 'archive' },
  input: onMachine,
  output: z.strictObject({ node: z.string(), vmid: z.number().int() }),
  slots: ({ machine }) => [storageSlot(machine), `creates@node:${machine.cluster}/${machine.node}`],
  locks: ({ machine }, at) => [guestLock(machine, at)],
  effects: ({ machine }, at) => [containerEffect(machine.cluster, at.vmid, machine.pool)],
  timeout: '30m',
  retry: { attempts: 6, first: '2s', max: '1m' },
  unskippable: 'every later step works on the container that it makes',
  lateWrites:
    'A create call that arrives late meets our own VMID: the cluster refuses it, or its container carries our mark and is found.',
  async act({ machine }, ports, run) {
    const hypervisor = ports.hypervisor(machine.cluster);
    const { identity, vmid, mac } = run.machine;
    const request = {
      archive: archiveOf(machine),
      vmid,
      name: machine.name,
      node: machine.node,
      storage: machine.storage,
      diskGiB: machine.size.diskGiB,
      description: describeWithMark(machine.description, run.mark()),
      settings: containerSettings(machine, run.machine),
      password: await firstPassword(machine, ports, run),
      sshKeys: machine.user.sshKeys,
    };
    return makeGuest(hypervisor, run, {
      key: `create-${vmid}`,
      words: { make: 'create', made: 'created', noun: 'create' },
      tool: 'pct',
      pool: machine.pool,
      send: (call) => hypervisor.startCreate(request, call),
      resolve: (sinceMs, call) => hypervisor.traceCreate(request, identity, sinceMs, call),
      lackOf: (guest) => lackOf(guest, mac),
      lackHint: 'Look at its archive and its storage.',
    });
  },
});

/** Volumes of one storage are made under its lock, those of a local one on their node. */
function storageSlot({ cluster, node, storage, storageShared }: MachineInput): string {
  return `creates@storage:${cluster}/${storageShared ? storage : `${node}:${storage}`}`;
}

function archiveOf({ name, archive }: MachineInput): string {
  if (archive !== undefined) return archive.volume;
  throw new HatcheryError('internal', `Unable to create ${name}: its blueprint names no archive`, {
    hint: 'Give the blueprint a workflow that clones its template: clone-container instead of create-container.',
  });
}

function lackOf(guest: OwnGuest, mac: string): string | undefined {
  if (guest.disks['rootfs']?.sizeGiB === undefined) return 'it has no root disk';
  return guest.mac === mac.toLowerCase() ? undefined : `its network card has the MAC ${guest.mac ?? 'none'}`;
}
