import type { EffectIntent } from '../plan/step.js';

/** A guest under a VMID of ours. Its undo is `guest@1` in effects.ts. */
export const guestEffect = (cluster: string, vmid: number, pool: string): EffectIntent => ({
  kind: 'guest',
  version: 1,
  system: cluster,
  key: String(vmid),
  payload: { cluster, vmid, pool },
});
