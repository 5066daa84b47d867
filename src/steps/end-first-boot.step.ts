import { isOfHook } from '../core/lxc/on-node.js';
import { rawLineText } from '../core/lxc/raw-lines.js';
import { defineStep } from '../plan/step.js';
import { findContainer, writeRawLines } from './container-node.js';
import { hookFiles } from './hook-files.js';
import { guestLock, noOutput, onMachine, type OnMachine } from './machine-step.js';

/** Later starts run no hook, and need no file of ours on whatever node the container is then. Passwords leave the node. */
export const endFirstBoot = defineStep<OnMachine, object>({
  id: 'end-first-boot',
  version: 1,
  only: { kind: 'lxc' },
  summary: 'Take the hooks and their files away from the container and its node',
  input: onMachine,
  output: noOutput,
  locks: ({ machine }, at) => [guestLock(machine, at)],
  effects: () => [],
  timeout: '3m',
  retry: { attempts: 8, first: '2s', max: '1m' },
  lateWrites:
    'The raw lines carry the digest of the config that was read; removing a file that is gone changes nothing.',
  async act({ machine }, ports, run) {
    const hooks = machine.onNode?.hooks ?? [];
    if (hooks.length === 0) return {};
    const files = ports.nodeFiles(machine.cluster);
    const hypervisor = ports.hypervisor(machine.cluster);
    const found = await findContainer(
      { files, hypervisor },
      run.machine.identity,
      run.machine.node,
      run.call,
    );
    const kept = new Set(machine.onNode?.templateLines);
    // The lines first: a container that starts with a line whose file is gone would not start.
    if (found)
      await writeRawLines(
        files,
        found,
        found.file.rawLines.filter((line) => kept.has(rawLineText(line)) || !isOfHook(line)),
        run.call,
      );
    for (const file of hookFiles(run.machine.node, machine.id, hooks)) await files.removeFile(file, run.call);
    return {};
  },
});
