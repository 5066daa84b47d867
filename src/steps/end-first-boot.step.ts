import { HatcheryError } from '../core/errors.js';
import { isOfHook } from '../core/lxc/on-node.js';
import { rawLineText } from '../core/lxc/raw-lines.js';
import { aloneAsGroup, defineStep, type Coalesce, type GroupMember, type StepPorts } from '../plan/step.js';
import { findContainer, writeRawLines } from './container-node.js';
import { hookFiles } from './hook-files.js';
import { guestLock, noOutput, onMachine, type OnMachine } from './machine-step.js';

/** What is asked of a node for several containers is one conversation. */
const coalesce: Coalesce<OnMachine, object> = {
  key: ({ machine }) => `end-first-boot:${machine.cluster}/${machine.node}`,
  windowMs: 1_000,
  max: 20,
  actMany: (members, ports) =>
    Promise.all(
      members.map((member) =>
        end(member, ports).catch((error: unknown) => {
          if (error instanceof HatcheryError) return error;
          throw error;
        }),
      ),
    ),
};

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
  coalesce,
  ...aloneAsGroup(coalesce),
});

async function end({ input: { machine }, run }: GroupMember<OnMachine>, ports: StepPorts): Promise<object> {
  const hooks = machine.onNode?.hooks ?? [];
  if (hooks.length === 0) return {};
  const files = ports.nodeFiles(machine.cluster);
  const hypervisor = ports.hypervisor(machine.cluster);
  const { identity, node } = run.machine;
  const found = await findContainer({ files, hypervisor }, identity, node, run.call);
  const kept = new Set(machine.onNode?.templateLines);
  // The lines first: a container that starts with a line whose file is gone would not start.
  if (found)
    await writeRawLines(
      files,
      found,
      found.file.rawLines.filter((line) => kept.has(rawLineText(line)) || !isOfHook(line)),
      run.call,
    );
  await Promise.all(hookFiles(node, machine.id, hooks).map((file) => files.removeFile(file, run.call)));
  return {};
}
