import { z } from 'zod';
import { HatcheryError } from '../core/errors.js';
import { defineStep } from '../plan/step.js';
import { burnVmid } from './burn-vmid.js';
import { guestLock, onMachine, type OnMachine } from './machine-step.js';

/** The number was reserved in Postgres with the request; here the cluster says whether it is free there too. */
export const reserveVmid = defineStep<OnMachine, { vmid: number }>({
  id: 'reserve-vmid',
  version: 1,
  summary: 'Confirm with the cluster that the reserved VMID is free, or take the next one',
  input: onMachine,
  output: z.strictObject({ vmid: z.number().int() }),
  // The first step of every machine: hundreds accepted at once begin by fair share, and do not stand in the queue before what others do.
  slots: ({ machine }) => [`lookups@cluster:${machine.cluster}`],
  locks: ({ machine }, at) => [guestLock(machine, at)],
  effects: () => [],
  timeout: '2m',
  retry: { attempts: 8, first: '2s', max: '1m' },
  unskippable: 'every other step works under the VMID that it makes sure of',
  lateWrites: 'Writes nothing outside.',
  async act({ machine }, ports, run) {
    const hypervisor = ports.hypervisor(machine.cluster);
    const { vmid } = run.machine;
    const lookup = await hypervisor.lookupVmid(vmid, run.call);
    if (lookup.answer === 'free') return { vmid };
    if (lookup.answer === 'unknown')
      throw new HatcheryError(
        'cluster-unreachable',
        `Unable to tell whether VMID ${vmid} is free on ${machine.cluster}: ${lookup.why}`,
        { retry: 'later' },
      );
    const own = await hypervisor.readOwn(run.machine.identity, run.call);
    if (own.answer === 'ours') return { vmid };
    if (own.answer === 'unknown')
      throw new HatcheryError(
        'cluster-unreachable',
        `Unable to tell whose guest has VMID ${vmid} on ${machine.cluster}: ${own.why}`,
        { retry: 'later' },
      );
    return burnVmid(hypervisor, run, lookup.by);
  },
});
