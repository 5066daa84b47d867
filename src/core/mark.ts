/** The identity that we write into a guest's description. deployment + machine + vmid are identity, the rest is history. */
export interface Mark {
  readonly deployment: string;
  readonly machine: string;
  readonly run: string;
  readonly step: string;
  readonly vmid: number;
  readonly attempt: number;
  /** Run that is deleting this guest. */
  readonly deleting?: string;
}

const UUID = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}';
const LINE = new RegExp(
  `^\\[hatchery v1 deployment=(${UUID}) machine=(${UUID}) run=(${UUID}) step=([a-z0-9][a-z0-9-]{0,62}) vmid=([1-9][0-9]{2,8}) attempt=([0-9]{1,6})(?: deleting=(${UUID}))?\\]$`,
);

/** The mark as one line of text. */
export function formatMark(mark: Mark): string {
  const deleting = mark.deleting === undefined ? '' : ` deleting=${mark.deleting}`;
  return `[hatchery v1 deployment=${mark.deployment} machine=${mark.machine} run=${mark.run} step=${mark.step} vmid=${mark.vmid} attempt=${mark.attempt}${deleting}]`;
}

/** Puts the mark on the last line below the human text. */
export function describeWithMark(humanText: string, mark: Mark): string {
  return `${humanText.trimEnd()}\n${formatMark(mark)}`;
}

/**
 * Reads the mark of a description: only the last non-empty line counts, and only in its exact form.
 * A mark is valid only on the guest whose VMID it names: the caller compares `vmid` (people clone guests, and the description comes along).
 */
export function parseMark(description: string | undefined): Mark | undefined {
  const last = description?.trimEnd().split('\n').at(-1)?.trim();
  const match = last === undefined ? null : LINE.exec(last);
  if (!match) return undefined;
  const [, deployment, machine, run, step, vmid, attempt, deleting] = match as unknown as string[];
  return {
    deployment: deployment!,
    machine: machine!,
    run: run!,
    step: step!,
    vmid: Number(vmid),
    attempt: Number(attempt),
    ...(deleting === undefined ? {} : { deleting }),
  };
}

/** The part of a mark that never changes. */
export type MarkIdentity = Pick<Mark, 'deployment' | 'machine' | 'vmid'>;

/** True when `mark` proves that the guest with `identity.vmid` is the one we made for this machine. */
export function isOwnMark(mark: Mark | undefined, identity: MarkIdentity): boolean {
  return (
    mark !== undefined &&
    mark.deployment === identity.deployment &&
    mark.machine === identity.machine &&
    mark.vmid === identity.vmid
  );
}
