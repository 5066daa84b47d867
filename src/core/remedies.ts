import type { ErrorCode } from './errors.js';
import type { MachineState } from './states.js';

/** Who is told what to do next: some commands are for admins. */
export type Reader = 'admin' | 'teacher';

/** What one cause means for whoever finds a machine parked for it at night, and what ends it. */
export interface Remedy {
  /** What happened, without a look at this machine. */
  readonly explanation: string;
  /** What has to be done before it goes on. */
  readonly advice: string;
  /** For admins: the command that shows more, before anything goes on. */
  readonly first?: string;
  /** `retry`: going on is right once that is done; `look`: somebody has to read the run first. */
  readonly goesOn: 'retry' | 'look';
}

/** Codes with which requests are refused at the door: no run ever waits for a person because of them. */
const DOOR = [
  'roster-invalid',
  'request-invalid',
  'payload-too-large',
  'name-taken',
  'already-has-machine',
  'batch-busy',
  'idempotency-mismatch',
  'idempotency-in-progress',
  'not-signed-in',
  'forbidden',
  'too-many-requests',
  'settings-invalid',
] as const satisfies readonly ErrorCode[];
type DoorCode = (typeof DOOR)[number];

/** A cause that a machine can be parked or fail for, or that stops a cluster. */
export type CauseCode = Exclude<ErrorCode, DoorCode>;

const CHECK = 'hatchery cluster check';
const LIST = 'hatchery cluster list';

/** The one place where each cause has its explanation and its remedy. */
export const REMEDIES: Readonly<Record<CauseCode, Remedy>> = {
  'cluster-unreachable': {
    explanation: 'The cluster, or the node that the machine is on, gave no answer for half an hour.',
    advice: 'Bring the node or its API back; nothing was sent meanwhile.',
    first: CHECK,
    goesOn: 'retry',
  },
  'cluster-no-quorum': {
    explanation:
      'The cluster had no quorum for half an hour: it can be read, and nothing in it can be changed.',
    advice: 'Bring the missing nodes back (pvecm status on one of them says which).',
    first: CHECK,
    goesOn: 'retry',
  },
  'cluster-paused': {
    explanation: 'An admin paused the cluster: nothing new begins on it, and what ran has ended.',
    advice: 'Nothing is wrong. It goes on when the cluster is resumed.',
    first: LIST,
    goesOn: 'look',
  },
  'service-unreachable': {
    explanation: 'The DHCP server or the desktop gateway gave no answer, however often it was asked.',
    advice: 'Bring the service back, or its account and certificate in services/.',
    first: 'hatchery admin doctor',
    goesOn: 'retry',
  },
  'permission-missing': {
    explanation:
      'Our account lacks a right on the remote side. The rest of the batch stopped before it asked in vain.',
    advice: 'Grant the right that is named; the check prints the command for each that is missing.',
    first: CHECK,
    goesOn: 'retry',
  },
  'host-key-changed': {
    explanation:
      'A node showed another SSH host key than the one that is written down for it: it was installed anew, or somebody stands in between. Nothing was said to it.',
    advice:
      'Ask who installed the node anew. If it was, read its key on its console and correct hostKeys in clusters/.',
    first: CHECK,
    goesOn: 'retry',
  },
  'hook-failed': {
    explanation:
      'A hook of the container failed, hangs or is missing on its node: the container did not start, or its first boot did not end. What it made so far is there.',
    advice: 'Read what it says, and mend its cause: the script, a package mirror, the domain.',
    goesOn: 'retry',
  },
  'remote-refused': {
    explanation: 'The remote side did not do it, and said why: asking again would get the same answer.',
    advice: 'Mend what its words say; the task log in the run has more of them.',
    goesOn: 'retry',
  },
  'outcome-unknown': {
    explanation:
      'A request was sent and its answer was lost, and no evidence says whether it was done. It was not sent a second time.',
    advice: 'Look at the remote side as the hint says. The run looks for evidence again when it is retried.',
    goesOn: 'retry',
  },
  'foreign-guest': {
    explanation:
      'What is there does not prove to be ours: its mark is missing, is another one, or it was restored. Nothing was written to it.',
    advice:
      'If it is this machine, put the mark back or adopt it; if it is not, release it and it stays where it is.',
    goesOn: 'look',
  },
  'template-changed': {
    explanation:
      'The template is not the one that was promised: it changed, moved, vanished, or is locked since a crash.',
    advice:
      'Mend the template as the reason says. If the change is meant, delete these machines and create them anew.',
    first: CHECK,
    goesOn: 'look',
  },
  'address-unknown': {
    explanation:
      'The machine runs, but told no address: it did not boot, got no lease, or its guest agent does not answer.',
    advice: 'Look at its console: network, DHCP lease, guest agent.',
    goesOn: 'retry',
  },
  'lock-timeout': {
    explanation: 'A lock was not free in time: of the guest, of its storage, or one of our own.',
    advice:
      'See who holds it. On the cluster: if nothing runs any more, the hint says which guest to unlock.',
    first: 'hatchery admin locks',
    goesOn: 'retry',
  },
  'step-timeout': {
    explanation: 'A step made no progress for longer than it may take.',
    advice: 'See how far its remote task is; the run follows that task again when it is retried.',
    goesOn: 'retry',
  },
  'no-capacity': {
    explanation:
      'A node or a storage has no room left. Whatever else goes to it stopped before it asked in vain.',
    advice: 'Make room there; the machines keep their places.',
    first: CHECK,
    goesOn: 'retry',
  },
  'vmid-range-full': {
    explanation: 'No VMID of our range is free: all are used, or rest after a machine was deleted.',
    advice: 'Widen the range in the cluster’s file, or end rests early (hatchery cluster vmids NAME).',
    first: LIST,
    goesOn: 'retry',
  },
  'workers-died': {
    explanation: 'Worker after worker died while it did this step, also when it did nothing else.',
    advice: 'Read the last lines of those workers’ logs, and their memory limit, before anything goes on.',
    first: 'hatchery admin workers',
    goesOn: 'look',
  },
  'unknown-step': {
    explanation:
      'No live worker knows this version of the step, or how to undo what it made: its build is gone.',
    advice: 'Start a worker of the build that has it.',
    first: 'hatchery admin workers',
    goesOn: 'retry',
  },
  'not-applicable': {
    explanation:
      'What is outside is in a state in which this cannot be done, for example a group that is still in use.',
    advice: 'Change that state as the reason says.',
    goesOn: 'retry',
  },
  'not-found': {
    explanation:
      'Something that the machine needs is no longer there: a cluster, a service or a template of the configuration.',
    advice: 'Bring it back in HATCHERY_CONFIG_DIR, and start the service again.',
    first: LIST,
    goesOn: 'retry',
  },
  internal: {
    explanation: 'A mistake in Hatchery itself. What was made so far is known and can be undone.',
    advice: 'Keep the run and the worker’s log for a report; a retry shows whether it was a passing one.',
    goesOn: 'look',
  },
};

const isCause = (code: ErrorCode): code is CauseCode => Object.hasOwn(REMEDIES, code);

/** What is known of a cause. A code of the door, which no machine stops for, is explained as a mistake of ours. */
export const remedyOf = (code: ErrorCode): Remedy => REMEDIES[isCause(code) ? code : 'internal'];

/**
 * The command that goes on after a failure: of one run when `runId` is known, else of every machine of the batch with this code.
 * It exists for who reads it and for the state that the machine is in: what has failed was undone, and is made anew.
 * Holds only slugs, codes and ids, so it can be pasted into a shell.
 */
export function nextCommand(
  code: ErrorCode,
  batch: string,
  at: { readonly state: MachineState; readonly reader: Reader; readonly runId?: string | undefined },
): string {
  const { first, goesOn } = remedyOf(code);
  const which = at.state === 'failed' ? '--failed' : '--parked';
  const look =
    at.runId === undefined
      ? `hatchery run list --batch ${batch} --code ${code}`
      : `hatchery run show ${at.runId}`;
  const again =
    at.runId === undefined
      ? `hatchery batch retry ${batch} ${which} --code ${code}`
      : `hatchery run retry ${at.runId}`;
  const goOn = goesOn === 'look' ? look : again;
  return at.reader === 'admin' && first !== undefined && first !== goOn ? `${first} && ${goOn}` : goOn;
}
