import type { WorldGuest } from '../world.js';

export type GuestKind = WorldGuest['kind'];

interface KindFacts {
  /** How its errors call it. */
  readonly word: 'VM' | 'CT';
  /** How its tasks begin: `qmstart`, `vzstart`. */
  readonly task: 'qm' | 'vz';
  /** Of its config files in `nodes/<node>/`. */
  readonly folder: 'qemu-server' | 'lxc';
}

/** What differs in name only between the two kinds of guests. */
export const KINDS: Readonly<Record<GuestKind, KindFacts>> = {
  qemu: { word: 'VM', task: 'qm', folder: 'qemu-server' },
  lxc: { word: 'CT', task: 'vz', folder: 'lxc' },
};
