import type { EffectIntent } from '../plan/step.js';
import type { GuestKind } from '../ports/hypervisor.js';

/** A virtual machine under a VMID of ours. Its undo is `guest@1` in effects.ts. */
export const guestEffect = (cluster: string, vmid: number, pool: string): EffectIntent => ({
  kind: 'guest',
  version: 1,
  system: cluster,
  key: String(vmid),
  payload: { cluster, vmid, pool },
});

/** The same for a container. */
export const containerEffect = (cluster: string, vmid: number, pool: string): EffectIntent => ({
  ...guestEffect(cluster, vmid, pool),
  kind: 'container',
});

export const effectOfKind = (kind: GuestKind, ...at: Parameters<typeof guestEffect>): EffectIntent =>
  kind === 'qemu' ? guestEffect(...at) : containerEffect(...at);

/** For the reservation of a VMID under which a clone was cut short: nobody but a person may remove what it left. */
export const leftNote = (vmid: number, why: string): string =>
  `a volume of it may be left (pvesm list <storage> --vmid ${vmid} shows it): ${why}`;
