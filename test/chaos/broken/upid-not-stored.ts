import { withStep, type Build } from './build.js';

/** The id of a remote task lives in the memory of its worker alone. */
export const upidNotStored: Build = {
  parts: (parts) =>
    withStep(parts, 'clone-template', (step) => ({
      act: (input, ports, run) =>
        step.act(input, ports, { ...run, once: (_key, { send }) => send(run.call) }),
    })),
};
