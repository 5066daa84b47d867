import { defineStep } from '../plan/step.js';
import type { OnMachine } from './machine-step.js';
import { startVm } from './start-vm.step.js';

export const startContainer = defineStep<OnMachine, object>({
  ...startVm,
  id: 'start-container',
  version: 1,
  only: { kind: 'lxc' },
  summary: 'Start the container',
});
