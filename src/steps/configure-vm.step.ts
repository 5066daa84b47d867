import { defineStep } from '../plan/step.js';
import { firstPassword, guestLock, learnGuest, noOutput, onMachine, type OnMachine } from './machine-step.js';

/** Cores, memory, network card with our MAC, cloud-init user, key and password of the stopped guest. */
export const configureVm = defineStep<OnMachine, object>({
  id: 'configure-vm',
  version: 1,
  summary: 'Set cores, memory, network card and first user of the new machine',
  only: { kind: 'qemu' },
  input: onMachine,
  output: noOutput,
  locks: ({ machine }, at) => [guestLock(machine, at)],
  effects: () => [],
  timeout: '2m',
  retry: { attempts: 6, first: '1s', max: '30s' },
  unskippable: 'without it the guest keeps the network card and the first user of its template',
  lateWrites: 'The write carries the digest of the config that was read: a late one is refused.',
  async act({ machine }, ports, run) {
    const password = await firstPassword(machine, ports, run);
    const phoneHomeToken = await ports.phoneHomes.issue(machine.id, machine.cluster);
    const guest = await ports.hypervisor(machine.cluster).configure(
      run.machine.identity,
      {
        cores: machine.size.cores,
        memoryMiB: machine.size.memoryMiB,
        bridge: machine.network.bridge,
        vlan: machine.network.vlan,
        mac: run.machine.mac,
        ciUser: machine.user.name,
        ciPassword: password?.reveal(),
        sshKeys: machine.user.sshKeys,
        phoneHomeToken,
      },
      run.call,
    );
    learnGuest(run, guest);
    return {};
  },
});
