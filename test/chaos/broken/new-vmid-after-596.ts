import { HatcheryError } from '../../../src/core/errors.js';
import { replaceVmid } from '../../../src/steps/burn-vmid.js';
import { withStep, type Build } from './build.js';

/** An answer that did not come counts as "not done": the next VMID is tried (F18). */
export const newVmidAfter596: Build = {
  parts: (parts) =>
    withStep(parts, 'clone-template', (step) => ({
      act: async (input, ports, run) => {
        try {
          return (await step.act(input, ports, run)) as unknown;
        } catch (error) {
          if (!(error instanceof HatcheryError) || error.code !== 'outcome-unknown') throw error;
          return replaceVmid(ports.hypervisor('main'), run, 'the clone did not answer');
        }
      },
    })),
};
