import { HatcheryError } from '../core/errors.js';
import { defineStep, type StepPorts } from '../plan/step.js';
import type { Dhcp } from '../ports/dhcp.js';
import { noOutput, onMachine, type OnMachine } from './machine-step.js';

/** Needs only the reservation, so it runs beside the clone. */
export const allowMac = defineStep<OnMachine, object>({
  id: 'allow-mac',
  version: 1,
  summary: 'Allow the machine’s MAC on the DHCP server',
  input: onMachine,
  output: noOutput,
  slots: ({ machine }) => [`shells@dhcp:${machine.network.dhcp ?? ''}`],
  locks: ({ machine }, at) => [`dhcp:${machine.network.dhcp ?? ''}/${at.mac}`],
  effects: ({ machine }, at) => [
    {
      kind: 'dhcp-filter',
      version: 1,
      system: machine.network.dhcp ?? '',
      key: at.mac,
      payload: {
        service: machine.network.dhcp ?? '',
        mac: at.mac,
        description: filterDescription(machine.name, machine.id),
      },
    },
  ],
  timeout: '3m',
  retry: { attempts: 8, first: '2s', max: '1m' },
  lateWrites:
    'A late add meets the same entry of ours and changes nothing; a late one after the undo is found by its description.',
  async find({ machine }, ports, run) {
    const entry = await dhcpOf(machine, ports).findAllowed(run.machine.mac, run.call);
    return entry?.description === filterDescription(machine.name, machine.id) ? {} : undefined;
  },
  async act({ machine }, ports, run) {
    await dhcpOf(machine, ports).allow(
      { mac: run.machine.mac, description: filterDescription(machine.name, machine.id) },
      run.call,
    );
    return {};
  },
});

/** Tells people which machine it is, and us that the entry is ours. */
const filterDescription = (name: string, machineId: string): string => `${name} [hatchery ${machineId}]`;

function dhcpOf(machine: OnMachine['machine'], ports: StepPorts): Dhcp {
  const { dhcp } = machine.network;
  if (dhcp === undefined)
    throw new HatcheryError(
      'internal',
      `Unable to allow the MAC of ${machine.name}: its blueprint names no DHCP service`,
      { hint: 'Put "if: ${{ inputs.machine.network.dhcp }}" on the step.' },
    );
  return ports.dhcp(dhcp);
}
