import { isDeployment } from './actors.js';
import type { NumberedLine } from './read-lines.js';
import type { Finding } from './verdict.js';

/** Requests that make a guest, and what their tasks are called. */
const MAKES = new Map([
  ['qemu.clone', 'qmclone'],
  ['lxc.clone', 'vzclone'],
  ['qemu.create', 'qmcreate'],
  ['lxc.create', 'vzcreate'],
]);
const OF_A_TASK = new Set(['task.status', 'task.log']);
const OF_A_GUEST = new Set(['qemu.config.get', 'qemu.status', 'lxc.config.get', 'lxc.status']);
const TASK_LIST = 'tasks.list';
/** With a VMID it says whether any guest has it. */
const ID_TABLE = 'cluster.nextid';

export const isMake = (op: string): boolean => MAKES.has(op);
export const isRead = (op: string): boolean =>
  op === TASK_LIST || op === ID_TABLE || OF_A_TASK.has(op) || OF_A_GUEST.has(op);

interface Sent {
  readonly line: number;
  readonly actor: string;
  readonly op: string;
  readonly cluster: string | undefined;
  readonly node: string | undefined;
  readonly vmid: number;
  readonly source: string | undefined;
  readonly isUnknown: boolean;
  upid: string | undefined;
  /** Somebody read what became of its task, or that there is none. */
  hasTaskLook: boolean;
  /** Somebody read whether its guest is there. */
  hasGuestLook: boolean;
}

/**
 * No guest is asked for a second time before somebody has looked what became of the first request. Both looks are needed: a task that runs has made
 * nothing yet, and what a task has made may be somebody else's. A list that everybody reads all the time proves nothing of this one request.
 */
export class Repeats {
  /** The last request to make each guest, by who sent it, cluster and VMID. */
  readonly #sent = new Map<string, Sent>();

  constructor(private readonly findings: Finding[]) {}

  apply(line: NumberedLine): void {
    const { event, op = '', actor, vmid } = line;
    if (!isDeployment(actor)) return;
    if (event === 'task-start' && isMake(op)) {
      const sent = this.#sent.get(key(line, vmid));
      if (sent?.op === op) sent.upid ??= line.upid;
    }
    if (event !== 'request') return;
    if (isMake(op) && vmid !== undefined) return this.#make(line, actor, vmid);
    if (line.answered === false || !isToldByTheCluster(line)) return;
    if (OF_A_GUEST.has(op)) this.#lookedAtGuest(line, vmid);
    else if (op === ID_TABLE) this.#lookedAtGuest(line, numberOf(line.params?.['vmid']));
    else if (op === TASK_LIST || OF_A_TASK.has(op))
      for (const sent of this.#sent.values())
        if (sent.actor === actor && (op === TASK_LIST ? covers(line, sent) : isTaskOf(line, sent)))
          sent.hasTaskLook = true;
  }

  #make(line: NumberedLine, actor: string, vmid: number): void {
    const before = this.#sent.get(key(line, vmid));
    if (before?.isUnknown && !(before.hasTaskLook && before.hasGuestLook))
      this.findings.push({
        rule: 'blind-repeat',
        line: line.line,
        detail: `${actor} asked for VMID ${vmid} again and did not look ${lookOf(before)} its request in line ${before.line}`,
      });
    this.#sent.set(key(line, vmid), {
      line: line.line,
      actor,
      op: line.op!,
      cluster: line.cluster,
      node: line.node,
      vmid,
      source: textOf(line.params?.['source']),
      isUnknown: isUnknown(line),
      upid: line.upid,
      hasTaskLook: false,
      hasGuestLook: false,
    });
  }

  #lookedAtGuest(line: NumberedLine, vmid: number | undefined): void {
    const sent = this.#sent.get(key(line, vmid));
    if (sent) sent.hasGuestLook = true;
  }
}

const lookOf = ({ hasTaskLook, hasGuestLook }: Sent): string =>
  !hasTaskLook && !hasGuestLook ? 'what became of' : hasTaskLook ? 'for the guest of' : 'for the task of';

const key = ({ actor, cluster }: NumberedLine, vmid: number | undefined): string =>
  `${actor!} ${cluster ?? ''} ${vmid ?? ''}`;

const isTaskOf = ({ params }: NumberedLine, { upid }: Sent): boolean =>
  upid !== undefined && params?.['upid'] === upid;

/** The task of the request, had it begun, would be in this list: of its node, running and ended ones, and no filter leaves it out. */
function covers({ cluster, node, params = {} }: NumberedLine, sent: Sent): boolean {
  const { vmid, typefilter, source, start, userfilter, errors, statusfilter } = params;
  const is = (filter: unknown, ...values: readonly (string | undefined)[]): boolean =>
    filter === undefined || values.includes(textOf(filter));
  return (
    cluster === sent.cluster &&
    node === sent.node &&
    source === 'all' &&
    is(vmid, String(sent.vmid), sent.source) &&
    is(typefilter, MAKES.get(sent.op)) &&
    is(start, '0') &&
    [userfilter, errors, statusfilter].every((filter) => filter === undefined)
  );
}

/** An answer of those who know: also "there is none", which is an error of the API. */
function isToldByTheCluster({ op, status = 200, params }: NumberedLine): boolean {
  if (status < 400) return true;
  if (op === ID_TABLE) return status === 400;
  return OF_A_GUEST.has(op ?? '') && status === 500 && /does not exist/.test(textOf(params?.['error']) ?? '');
}

/** Whoever sent it cannot know from the answer alone that nothing was made: only a refusal by the one who executes says that. */
function isUnknown({ answered, status = 200 }: NumberedLine): boolean {
  const isNeverConnected = status === 595;
  const isLostBehindProxy = status === 596 || status === 597 || status === 599;
  return answered === false || isLostBehindProxy || (status < 400 && !isNeverConnected);
}

const textOf = (value: unknown): string | undefined =>
  typeof value === 'string' || typeof value === 'number' ? String(value) : undefined;
const numberOf = (value: unknown): number | undefined =>
  /^[0-9]+$/.test(textOf(value) ?? '') ? Number(value) : undefined;
