import { snippetVolumes } from '../core/cloud-init/snippets.js';
import { defineStep } from '../plan/step.js';
import { guestLock, noOutput, onMachine, type OnMachine } from './machine-step.js';

/** Before the first start, which is when the guest gets to know who it is. */
export const useSnippets = defineStep<OnMachine, object>({
  id: 'use-snippets',
  version: 1,
  only: { kind: 'qemu' },
  summary: 'Name the cloud-init files in the config of the machine',
  input: onMachine,
  output: noOutput,
  locks: ({ machine }, at) => [guestLock(machine, at)],
  effects: () => [],
  timeout: '2m',
  retry: { attempts: 6, first: '1s', max: '30s' },
  unskippable: 'without it the machine starts without the cloud-init data that was asked for',
  lateWrites: 'The write carries the digest of the config that was read: a late one is refused.',
  async act({ machine }, ports, run) {
    if (machine.snippets === undefined) return {};
    const { node } = await ports
      .hypervisor(machine.cluster)
      .useSnippets(run.machine.identity, snippetVolumes(machine.snippets), run.call);
    run.learn({ node });
    return {};
  },
});
