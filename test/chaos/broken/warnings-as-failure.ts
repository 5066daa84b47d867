import { withHypervisor, type Build } from './build.js';

/** Only `OK` is a success (F27). */
export const warningsAsFailure: Build = {
  parts: (parts) =>
    withHypervisor(parts, (real) => ({
      followTask: async (...asked) => {
        const verdict = await real.followTask(...asked);
        if (verdict.verdict !== 'ok' || verdict.warnings === 0) return verdict;
        return { verdict: 'error', text: `WARNINGS: ${verdict.warnings}` };
      },
    })),
};
