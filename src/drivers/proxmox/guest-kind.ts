import type { GuestKind } from '../../ports/hypervisor.js';

/** How the cluster calls the things of each kind. */
export const KINDS: Readonly<
  Record<
    GuestKind,
    {
      readonly noun: string;
      /** For root on a node. */
      readonly tool: 'qm' | 'pct';
      readonly cloneTask: string;
      readonly destroyTask: string;
    }
  >
> = {
  qemu: { noun: 'virtual machine', tool: 'qm', cloneTask: 'qmclone', destroyTask: 'qmdestroy' },
  lxc: { noun: 'container', tool: 'pct', cloneTask: 'vzclone', destroyTask: 'vzdestroy' },
};

/** Of one guest, below `/api2/json`. */
export const guestPath = (node: string, kind: GuestKind, vmid: number): string =>
  `/nodes/${node}/${kind}/${vmid}`;
