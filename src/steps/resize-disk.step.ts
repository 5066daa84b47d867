import { defineStep } from '../plan/step.js';
import { guestLock, noOutput, onMachine, templateOf, type OnMachine } from './machine-step.js';
import { taskFailed } from './task-failed.js';

export const resizeDisk = defineStep<OnMachine, object>({
  id: 'resize-disk',
  version: 1,
  summary: 'Grow the main disk to the size that was asked for',
  only: { source: 'templates' },
  input: onMachine,
  output: noOutput,
  locks: ({ machine }, at) => [guestLock(machine, at)],
  effects: () => [],
  timeout: '10m',
  retry: { attempts: 6, first: '1s', max: '30s' },
  lateWrites: 'The size is absolute: a late write finds the disk that large and changes nothing.',
  async act({ machine }, ports, run) {
    const hypervisor = ports.hypervisor(machine.cluster);
    const task = await hypervisor.startResize(
      run.machine.identity,
      templateOf(machine).disk,
      machine.size.diskGiB,
      run.call,
    );
    if (task === undefined) return {};
    const verdict = await hypervisor.followTask(task, run.call);
    if (verdict.verdict === 'ok') return {};
    throw taskFailed(`resize the disk of guest ${run.machine.vmid}`, task, verdict);
  },
});
