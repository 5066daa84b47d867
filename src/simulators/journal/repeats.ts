import { isDeployment } from './actors.js';
import type { NumberedLine } from './read-lines.js';
import type { Finding } from './verdict.js';

const MAKES = new Set(['qemu.clone', 'lxc.clone', 'qemu.create', 'lxc.create']);

/** Reads by which it can be known whether an earlier request was carried out: any list, or what names this guest or a task. */
const LISTS = new Set([
  'tasks.list',
  'cluster.resources',
  'qemu.list',
  'lxc.list',
  'pools.get',
  'storage.content',
]);
const OF_A_TASK = new Set(['task.status', 'task.log']);
const OF_A_GUEST = new Set(['qemu.config.get', 'qemu.status', 'lxc.config.get', 'lxc.status']);

export const isMake = (op: string): boolean => MAKES.has(op);
export const isRead = (op: string): boolean => LISTS.has(op) || OF_A_TASK.has(op) || OF_A_GUEST.has(op);

interface Sent {
  readonly line: number;
  readonly isUnknown: boolean;
  hasEvidence: boolean;
}

/** No guest is asked for a second time before somebody has looked what became of the first request. */
export class Repeats {
  /** The last request to make each guest, by who sent it, cluster and VMID. */
  readonly #sent = new Map<string, Sent>();

  constructor(private readonly findings: Finding[]) {}

  apply(line: NumberedLine): void {
    const { event, op = '', actor, vmid } = line;
    if (event !== 'request' || !isDeployment(actor)) return;
    if (isMake(op) && vmid !== undefined) return this.#make(line, vmid);
    if (line.answered === false || (line.status ?? 200) >= 400) return;
    if (LISTS.has(op) || OF_A_TASK.has(op)) for (const one of this.#of(line)) one.hasEvidence = true;
    else if (OF_A_GUEST.has(op)) {
      const sent = this.#sent.get(key(line, vmid));
      if (sent) sent.hasEvidence = true;
    }
  }

  #make(line: NumberedLine, vmid: number): void {
    const before = this.#sent.get(key(line, vmid));
    if (before !== undefined && before.isUnknown && !before.hasEvidence)
      this.findings.push({
        rule: 'blind-repeat',
        line: line.line,
        detail: `${line.actor!} asked for VMID ${vmid} again and did not look what became of its request in line ${before.line}`,
      });
    this.#sent.set(key(line, vmid), { line: line.line, isUnknown: isUnknown(line), hasEvidence: false });
  }

  /** Of the same sender. */
  *#of({ actor }: NumberedLine): Iterable<Sent> {
    for (const [name, sent] of this.#sent) if (name.startsWith(`${actor!} `)) yield sent;
  }
}

const key = ({ actor, cluster }: NumberedLine, vmid: number | undefined): string =>
  `${actor!} ${cluster ?? ''} ${vmid ?? ''}`;

/** Whoever sent it cannot know from the answer alone that nothing was made: only a refusal by the one who executes says that. */
function isUnknown({ answered, status = 200 }: NumberedLine): boolean {
  const isNeverConnected = status === 595;
  const isLostBehindProxy = status === 596 || status === 597 || status === 599;
  return answered === false || isLostBehindProxy || (status < 400 && !isNeverConnected);
}
