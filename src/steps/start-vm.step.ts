import { HatcheryError } from '../core/errors.js';
import { defineStep, type StepPorts, type StepRun } from '../plan/step.js';
import { guestLock, noOutput, onMachine, type OnMachine } from './machine-step.js';
import { putSnippets, snippetFilesElsewhere } from './snippet-files.js';
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
  effects: ({ machine }, at) => snippetFilesElsewhere(machine, at),
  timeout: '5m',
  retry: { attempts: 6, first: '2s', max: '30s' },
  lateWrites:
    'A late start meets a running guest, which the cluster refuses, or a deleted one. A late cloud-init file replaces itself.',
  async act({ machine }, ports, run) {
    await ensureSnippets(machine, ports, run);
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

/** Somebody may have taken a file away, and the guest may have gone to another node since it got them. */
async function ensureSnippets(machine: OnMachine['machine'], ports: StepPorts, run: StepRun): Promise<void> {
  const { snippets } = machine;
  if (snippets === undefined) return;
  const { identity, node, vmid } = run.machine;
  const own =
    run.attempt > 1 ? await ports.hypervisor(machine.cluster).readOwn(identity, run.call) : undefined;
  if (own?.answer === 'ours' && own.guest.node !== node) {
    run.learn({ node: own.guest.node });
    throw new HatcheryError(
      'remote-refused',
      `Unable to start guest ${vmid}: it moved to ${own.guest.node}`,
      {
        retry: 'later',
      },
    );
  }
  await putSnippets(ports.nodeFiles(machine.cluster), node, snippets, run.call);
}
