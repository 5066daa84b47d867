export type Rule =
  | 'no-world'
  | 'unreadable-line'
  | 'no-work'
  | 'vmid-collision'
  | 'mac-collision'
  | 'name-collision'
  | 'address-collision'
  | 'foreign-write'
  | 'unreferenced-disks'
  | 'script-changed'
  | 'left-behind'
  | 'lost-submit'
  | 'unended-run'
  | 'double-machine'
  | 'blind-repeat'
  | 'reused-early';

export interface Finding {
  readonly rule: Rule;
  readonly detail: string;
  /** Line of the file, from 1; 0 = the journal as a whole. */
  readonly line: number;
}

/** What a ready machine lacks on the other side. */
export interface Missing {
  readonly machine: string;
  readonly vmid: number;
  readonly what: 'guest' | 'running' | 'mac' | 'address' | 'filter' | 'connection' | 'permission';
}

export interface Counts {
  lines: number;
  unreadable: number;
  proxmoxRequests: number;
  winrmCommands: number;
  guacamoleRequests: number;
  faults: number;
  foreignActions: number;
  guestsCreated: number;
  guestsStarted: number;
  guestsDestroyed: number;
  filtersAdded: number;
  filtersRemoved: number;
  connectionsCreated: number;
  permissionsAdded: number;
  /** Remote tasks that began and have no end in the journal. */
  openTasks: number;
}

export interface JournalVerdict {
  readonly ok: boolean;
  readonly collisions: number;
  readonly foreignWrites: number;
  /** Things that our actors made and that are still there; `leftItems` names them. */
  readonly left: number;
  readonly leftItems: readonly string[];
  readonly missing: readonly Missing[];
  readonly findings: readonly Finding[];
  readonly counts: Readonly<Counts>;
  /** Why it proves nothing although it is in order: less happened than was meant to. */
  readonly void: readonly string[];
}

export const noCounts = (): Counts => ({
  lines: 0,
  unreadable: 0,
  proxmoxRequests: 0,
  winrmCommands: 0,
  guacamoleRequests: 0,
  faults: 0,
  foreignActions: 0,
  guestsCreated: 0,
  guestsStarted: 0,
  guestsDestroyed: 0,
  filtersAdded: 0,
  filtersRemoved: 0,
  connectionsCreated: 0,
  permissionsAdded: 0,
  openTasks: 0,
});

/** The verdict for people: one line per sentence. */
export function sentences(verdict: JournalVerdict): string[] {
  const { counts } = verdict;
  return [
    ...verdict.findings.map(
      ({ rule, detail, line }) => `${rule}${line > 0 ? ` (line ${line})` : ''}: ${detail}`,
    ),
    ...verdict.missing.map(
      ({ machine, vmid, what }) => `missing: machine ${machine} (VMID ${vmid}) has no ${what}`,
    ),
    `${counts.guestsCreated} guests created, ${counts.guestsStarted} started, ${counts.guestsDestroyed} destroyed; ` +
      `${counts.filtersAdded} filters, ${counts.connectionsCreated} connections and ${counts.permissionsAdded} permissions added.`,
    `${verdict.collisions} collisions, ${verdict.foreignWrites} writes to what is not ours, ${verdict.missing.length} things missing, ${verdict.left} things left.`,
    ...verdict.void.map((why) => `void: ${why}`),
    verdict.ok
      ? verdict.void.length === 0
        ? 'The journal is in order.'
        : 'The journal is in order, but too little happened to prove anything.'
      : 'The journal is NOT in order.',
  ];
}
