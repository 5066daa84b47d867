import { z } from 'zod';
import { HatcheryError } from '../core/errors.js';
import { StepWait, defineStep } from '../plan/step.js';
import { onMachine, type OnMachine } from './machine-step.js';

/** A boot with a preinstalled agent takes 25 s in the median: asking earlier blocks an API worker of the node for 3 s each time. */
const FIRST_ASK_MS = 20_000;
const NEXT_ASK_MS = 5_000;

/** Asks the guest agent late and rarely, and gives its worker back in between. */
export const waitAddress = defineStep<OnMachine, { address: string }>({
  id: 'wait-address',
  version: 1,
  summary: 'Wait until the machine has an address',
  input: onMachine,
  output: z.strictObject({ address: z.string() }),
  locks: () => [],
  effects: () => [],
  timeout: '1m',
  deadline: '15m',
  retry: { attempts: 20, first: '2s', max: '30s' },
  lateWrites: 'Writes nothing outside.',
  expired: ({ machine }) =>
    new HatcheryError(
      'address-unknown',
      `Unable to learn the address of ${machine.name}: its guest agent reported none in time`,
      {
        retry: 'after-fix',
        hint: 'Look at the machine’s console: network, DHCP lease, guest agent. Then retry its run.',
      },
    ),
  async act({ machine }, ports, run) {
    const scale = ports.remoteTimeScale;
    if (run.attempt === 1) return new StepWait(FIRST_ASK_MS * scale, 'the machine boots');
    const hypervisor = ports.hypervisor(machine.cluster);
    const address = await hypervisor.guestAddress(run.machine.identity, run.machine.mac, run.call);
    if (address === undefined) return new StepWait(NEXT_ASK_MS * scale, 'no address yet');
    const other = await run.claimAddress(address);
    if (other !== undefined) {
      const identity = { ...run.machine.identity, machine: other.machineId, vmid: other.vmid };
      // A lease goes from one to another in time: only who still answers with it is in the way.
      if ((await hypervisor.guestAddress(identity, other.mac, run.call)) === address)
        throw twice(machine.name, other.name, address);
    }
    run.learn({ address });
    return { address };
  },
});

const twice = (name: string, other: string, address: string): HatcheryError =>
  new HatcheryError(
    'address-unknown',
    `Unable to use the address ${address} of ${name}: ${other} has it at the same time`,
    {
      retry: 'after-fix',
      hint: 'Both have one identity towards the DHCP server, copied with the template. In the template: truncate -s 0 /etc/machine-id; in this machine: the same and a reboot. Then retry its run.',
    },
  );
