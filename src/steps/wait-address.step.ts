import { z } from 'zod';
import { askTimes, type AskTimes } from '../core/ask-times.js';
import { HatcheryError } from '../core/errors.js';
import { StepWait, defineStep, type StepPorts, type StepRun } from '../plan/step.js';
import { onMachine, type OnMachine } from './machine-step.js';

/** A guest that was told to phone home does so when its network is up; after this long its vendor data did not reach it, or it does not reach us. */
const SILENT_AFTER_MS = 90_000;

/**
 * Waits for the guest to phone home, or asks its agent (of a container: its node) when past boots say that it is likely up, then rarely, and
 * gives its worker back in between: asking an agent that sleeps blocks an API worker of the node for 3 s.
 */
export const waitAddress = defineStep<OnMachine, { address: string }>({
  id: 'wait-address',
  version: 1,
  summary: 'Wait until the machine has an address',
  input: onMachine,
  output: z.strictObject({ address: z.string() }),
  locks: () => [],
  effects: () => [],
  timeout: '1m',
  wakesOnPhoneHome: true,
  deadline: '15m',
  retry: { attempts: 20, first: '2s', max: '30s' },
  lateWrites: 'Writes nothing outside.',
  expired: ({ machine }) =>
    new HatcheryError(
      'address-unknown',
      `Unable to learn the address of ${machine.name}: nobody could tell it in time`,
      {
        retry: 'after-fix',
        hint: 'Look at the machine’s console: network, DHCP lease, guest agent of a virtual machine. Then retry its run.',
      },
    ),
  async act({ machine }, ports, run) {
    const { phoneHome } = run.machine;
    const told = phoneHome?.address;
    // Of what it told when it first booted, an address that another machine has now is worth nothing: its agent knows the present one.
    if (told !== undefined && (await run.claimAddress(told)) === undefined) {
      run.learn({ address: told });
      return { address: told };
    }
    const asks = await timesToAsk(machine, ports, run);
    if (run.attempt === 1)
      return new StepWait(
        phoneHome && told === undefined ? SILENT_AFTER_MS * ports.remoteTimeScale : asks.firstMs,
        'the machine boots',
      );
    const hypervisor = ports.hypervisor(machine.cluster);
    const address = await hypervisor.guestAddress(run.machine.identity, run.machine.mac, run.call);
    if (address === undefined) return new StepWait(asks.gapMs(run.attempt - 1), 'no address yet');
    const other = await run.claimAddress(address);
    if (other !== undefined) {
      const { deployment } = run.machine.identity;
      const identity = { deployment, machine: other.machineId, vmid: other.vmid };
      // A lease goes from one to another in time: only who still answers with it is in the way.
      if ((await hypervisor.guestAddress(identity, other.mac, run.call)) === address)
        throw twice(machine.name, other.name, address);
    }
    run.learn({ address });
    return { address };
  },
});

async function timesToAsk(
  { cluster, kind, blueprint = '' }: OnMachine['machine'],
  { durations, remoteTimeScale }: StepPorts,
  { machine, stepKey }: StepRun,
): Promise<AskTimes> {
  const known = await durations.of(cluster, blueprint, stepKey);
  // Random digits of the id: the same machine always gets the same turn.
  const chance = Number.parseInt(machine.machineId.slice(-8), 16) / 2 ** 32;
  return askTimes(known?.came, chance, remoteTimeScale, kind);
}

const twice = (name: string, other: string, address: string): HatcheryError =>
  new HatcheryError(
    'address-unknown',
    `Unable to use the address ${address} of ${name}: ${other} has it at the same time`,
    {
      retry: 'after-fix',
      hint: 'Both have one identity towards the DHCP server, copied with the template. In the template: truncate -s 0 /etc/machine-id; in this machine: the same and a reboot. Then retry its run.',
    },
  );
