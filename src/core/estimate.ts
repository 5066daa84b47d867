/**
 * Seconds of one undisturbed step at work, for a step that has not been seen often enough to know better: clone, configure, resize and start
 * as reported for Proxmox VE with Ceph RBD, containers too, the others assumed. They only feed what people read; nothing waits by them.
 */
const ASSUMED_S: Readonly<Record<string, number>> = {
  'reserve-vmid': 0.1,
  'allow-mac': 1.5,
  /** What is not under the storage's lock; of a full clone all but its bytes. */
  'clone-template': 0.5,
  'configure-vm': 0.4,
  'resize-disk': 0.8,
  /** A conversation with each of a few nodes. */
  'put-snippets': 0.5,
  'use-snippets': 0.3,
  'start-vm': 2.8,
  'clone-container': 2.5,
  'configure-container': 0.3,
  /** Unpacking half a gigabyte, and making its file system. */
  'create-container': 12,
  'start-container': 2.8,
  /** From start to an address told by the guest agent. */
  'wait-address': 25,
  'register-desktop': 0.6,
};

/** Disk and cloud-init drive of a clone, under a lock that one clone of a storage has at a time. */
const LOCKED_S = 1.5;

/** Copy rate of one storage, shared by its parallel copies. */
const COPY_GIB_PER_S = 0.2;

/** Seconds that a step of this kind is assumed to take, `diskGiB` being what a clone copies; `undefined` for a kind of which nothing was ever reported. */
export function assumedSeconds(
  uses: string,
  machine: { readonly clone: 'linked' | 'full'; readonly diskGiB: number },
  copiesAtOnce: number,
): number | undefined {
  const seconds = ASSUMED_S[uses];
  if (seconds === undefined || !uses.startsWith('clone-')) return seconds;
  const copyS = machine.clone === 'full' ? machine.diskGiB / COPY_GIB_PER_S : 0;
  return seconds + ((uses === 'clone-template' ? LOCKED_S : 0) + copyS) * copiesAtOnce;
}
