import { HatcheryError } from '../../../src/core/errors.js';
import { withHypervisor, type Build } from './build.js';

/** A lookup that fails counts as "nobody is there": an id is free, a guest is gone (F05, S42). */
export const freeOnException: Build = {
  parts: (parts) =>
    withHypervisor(parts, (real) => ({
      lookupVmid: async (...asked) => {
        const lookup = await real.lookupVmid(...asked);
        return lookup.answer === 'unknown' ? { answer: 'free' } : lookup;
      },
      destroyOwn: async (...asked) => {
        try {
          return await real.destroyOwn(...asked);
        } catch (error) {
          if (error instanceof HatcheryError) return { existed: false };
          throw error;
        }
      },
    })),
};
