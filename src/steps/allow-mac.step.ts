import { HatcheryError } from '../core/errors.js';
import { aloneAsGroup, defineStep, type Coalesce, type GroupMember, type StepPorts } from '../plan/step.js';
import type { AllowEntry, Dhcp } from '../ports/dhcp.js';
import { noOutput, onMachine, type OnMachine } from './machine-step.js';

/** As many as one script adds in a few seconds: whoever is not in it waits no longer than that for the next. */
const MOST_AT_ONCE = 50;

const coalesce: Coalesce<OnMachine, object> = {
  key: ({ machine }) => `dhcp:${machine.network.dhcp ?? ''}`,
  windowMs: 400,
  max: MOST_AT_ONCE,
  async findMany(members, ports, call) {
    const entries = members.map(entryOf);
    const found = await dhcpOf(members, ports).findAllowed(
      entries.map(({ mac }) => mac),
      call,
    );
    return entries.map(({ description }, index) =>
      found[index]?.description === description ? {} : undefined,
    );
  },
  async actMany(members, ports, call) {
    const failures = await dhcpOf(members, ports).allow(members.map(entryOf), call);
    return failures.map((failure) => failure ?? {});
  },
};

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
  coalesce,
  ...aloneAsGroup(coalesce),
});

/** Tells people which machine it is, and us that the entry is ours. */
const filterDescription = (name: string, machineId: string): string => `${name} [hatchery ${machineId}]`;

function entryOf({ input: { machine }, run }: GroupMember<OnMachine>): AllowEntry {
  return { mac: run.machine.mac, description: filterDescription(machine.name, machine.id) };
}

/** The members of a group have one service: it is in their key. */
function dhcpOf(members: readonly GroupMember<OnMachine>[], ports: StepPorts): Dhcp {
  const { name, network } = members[0]!.input.machine;
  if (network.dhcp === undefined)
    throw new HatcheryError(
      'internal',
      `Unable to allow the MAC of ${name}: its blueprint names no DHCP service`,
      { hint: 'Put "if: ${{ inputs.machine.network.dhcp }}" on the step.' },
    );
  return ports.dhcp(network.dhcp);
}
