import { defineStep } from '../plan/step.js';
import { guestLock, noOutput, onMachine, type OnMachine } from './machine-step.js';
import { taskFailed } from './task-failed.js';

export const startVm = defineStep<OnMachine, object>({
  id: 'start-vm',
  version: 1,
  summary: 'Start the machine',
  only: { kind: 'qemu' },
  input: onMachine,
  output: noOutput,
  slots: ({ machine }) => [`starts@node:${machine.cluster}/${machine.node}`],
  locks: ({ machine }, at) => [guestLock(machine, at)],
  effects: () => [],
  timeout: '5m',
  retry: { attempts: 6, first: '2s', max: '30s' },
  lateWrites: 'A late start meets a running guest, which the cluster refuses, or a deleted one.',
  async act({ machine }, ports, run) {
    const hypervisor = ports.hypervisor(machine.cluster);
    const task = await hypervisor.startGuest(run.machine.identity, run.call, {
      isRepeat: run.attempt > 1,
    });
    if (task === undefined) return {};
    const verdict = await hypervisor.followTask(task, run.call);
    if (verdict.verdict === 'ok') return {};
    throw taskFailed(`start guest ${run.machine.vmid}`, task, verdict);
  },
});
