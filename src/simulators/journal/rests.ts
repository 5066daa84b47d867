import { isDeployment } from './actors.js';
import { markOf } from './mark.js';
import type { NumberedLine } from './read-lines.js';
import type { Finding } from './verdict.js';

const MADE = new Set(['qemu.clone', 'lxc.clone', 'qemu.create', 'lxc.create']);
const DESTROYED = new Set(['qemu.destroy', 'lxc.destroy']);
const NS_PER_MS = 1_000_000n;

interface Freed {
  readonly ns: bigint;
  readonly line: number;
  /** By its mark. */
  readonly machine: string | undefined;
}

/** A VMID that a deployment freed rests before another machine gets it; the same machine may be made anew. */
export class Rests {
  readonly #machines = new Map<string, string | undefined>();
  readonly #freed = new Map<string, Freed>();

  constructor(
    private readonly findings: Finding[],
    private readonly restMs: number,
  ) {}

  apply(line: NumberedLine): void {
    const { event, op = '', actor, vmid, effect } = line;
    if (event !== 'task-end' || effect !== true || vmid === undefined || !isDeployment(actor)) return;
    const key = `${line.cluster ?? ''} ${vmid}`;
    const mark = line.params?.['mark'];
    const machine = typeof mark === 'string' ? markOf(mark)?.machine : undefined;
    if (DESTROYED.has(op))
      this.#freed.set(key, { ns: BigInt(line.ns), line: line.line, machine: this.#machines.get(key) });
    if (!MADE.has(op)) return;
    this.#machines.set(key, machine);
    const freed = this.#freed.get(key);
    if (freed === undefined || freed.machine === machine) return;
    const restedMs = (BigInt(line.ns) - freed.ns) / NS_PER_MS;
    if (restedMs < BigInt(this.restMs))
      this.findings.push({
        rule: 'reused-early',
        line: line.line,
        detail: `VMID ${vmid} was freed in line ${freed.line} and given to another machine ${restedMs} ms later`,
      });
  }
}
