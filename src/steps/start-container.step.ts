import { HatcheryError } from '../core/errors.js';
import { readStartLog } from '../core/lxc/start-log.js';
import { defineStep } from '../plan/step.js';
import { guestLock, noOutput, onMachine, type OnMachine } from './machine-step.js';
import { startVm } from './start-vm.step.js';
import { taskFailed } from './task-failed.js';

export const startContainer = defineStep<OnMachine, object>({
  ...startVm,
  id: 'start-container',
  version: 1,
  only: { kind: 'lxc' },
  summary: 'Start the container',
  input: onMachine,
  output: noOutput,
  effects: () => [],
  lateWrites: 'A late start meets a running container, which the cluster refuses, or a deleted one.',
  locks: ({ machine }, at) => [guestLock(machine, at)],
  async act({ machine }, ports, run) {
    const hypervisor = ports.hypervisor(machine.cluster);
    const task = await hypervisor.startGuest(run.machine.identity, run.call, {
      isRepeat: run.attempt > 1,
    });
    if (task === undefined) return {};
    const verdict = await hypervisor.followTask(task, run.call);
    if (verdict.verdict === 'ok') return {};
    const what = `start guest ${run.machine.vmid}`;
    // The verdict of a start that LXC refused says no more than that; the log has its words.
    if (verdict.verdict === 'unknown' || !verdict.text.startsWith('startup for container'))
      throw taskFailed(what, task, verdict);
    const failure = readStartLog((await hypervisor.taskLog(task, run.call)).lines);
    throw new HatcheryError(
      failure?.isHook ? 'hook-failed' : 'remote-refused',
      `Unable to ${what}: ${failure?.why ?? verdict.text}`,
      {
        retry: 'after-fix',
        facts: { task: task.id },
        hint: `Mend that on ${run.machine.node} (pct start ${run.machine.vmid} --debug shows more), then: hatchery run retry ${run.runId}`,
      },
    );
  },
});
