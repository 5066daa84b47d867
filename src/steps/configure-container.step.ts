import { defineStep } from '../plan/step.js';
import {
  containerSettings,
  guestLock,
  learnGuest,
  noOutput,
  onMachine,
  type OnMachine,
} from './machine-step.js';

/** Cores, memory, swap and network card with our MAC of the stopped clone. */
export const configureContainer = defineStep<OnMachine, object>({
  id: 'configure-container',
  version: 1,
  summary: 'Set cores, memory, swap and network card of the new container',
  only: { kind: 'lxc' },
  input: onMachine,
  output: noOutput,
  locks: ({ machine }, at) => [guestLock(machine, at)],
  effects: () => [],
  timeout: '2m',
  retry: { attempts: 6, first: '1s', max: '30s' },
  unskippable: 'without it the container has a MAC that nobody allowed on the network',
  lateWrites: 'The write carries the digest of the config that was read: a late one is refused.',
  async act({ machine }, ports, run) {
    const settings = containerSettings(machine, run.machine);
    const guest = await ports
      .hypervisor(machine.cluster)
      .configureContainer(run.machine.identity, settings, run.call);
    learnGuest(run, guest);
    return {};
  },
});
