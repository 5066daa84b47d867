import { withUndo, type Build } from './build.js';

/** A machine that got ready before its cancel came is written down as cancelled, and its guest lives on (Q15). */
export const cancelledOverReady: Build = {
  parts: (parts) => {
    const real = parts.effects.get('guest@1')!;
    return withUndo(parts, 'guest@1', async (payload, ports, run) => {
      if (!run.confirmed) await real.undo(payload, ports, run);
    });
  },
};
