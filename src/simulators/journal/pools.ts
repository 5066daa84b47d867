import { isDeployment } from './actors.js';
import type { NumberedLine } from './read-lines.js';

interface Membership {
  readonly cluster: string;
  readonly pool: string;
  readonly vmid: number;
}

const MADE = new Set(['qemu.clone', 'lxc.clone', 'qemu.create', 'lxc.create']);
const DESTROYED = new Set(['qemu.destroy', 'lxc.destroy', 'foreign.delete']);

/** Who is in which pool because a deployment put it there. A guest that goes takes its membership along. */
export class PoolLedger {
  readonly #members = new Map<string, Membership>();

  members(): Membership[] {
    return [...this.#members.values()];
  }

  apply(line: NumberedLine): void {
    const { event, op = '', effect, vmid, cluster = '', params = {} } = line;
    if (effect !== true || event === 'task-start') return;
    if (MADE.has(op) && vmid !== undefined) {
      if (typeof params['pool'] === 'string') this.#put(line, params['pool'], [vmid]);
    } else if (DESTROYED.has(op))
      for (const [key, one] of this.#members)
        if (one.cluster === cluster && one.vmid === vmid) this.#members.delete(key);
    if (op !== 'pools.put') return;
    const { pool = '', added, removed } = params as { pool?: string; added?: unknown; removed?: unknown };
    this.#put(line, pool, numbers(added));
    for (const one of numbers(removed)) this.#members.delete(keyOf({ cluster, pool, vmid: one }));
  }

  #put({ actor, cluster = '' }: NumberedLine, pool: string, vmids: readonly number[]): void {
    for (const vmid of vmids) {
      const one = { cluster, pool, vmid };
      // What an admin put there is no longer ours to take away.
      if (isDeployment(actor)) this.#members.set(keyOf(one), one);
      else this.#members.delete(keyOf(one));
    }
  }
}

const keyOf = ({ cluster, pool, vmid }: Membership): string => JSON.stringify([cluster, pool, vmid]);
const numbers = (value: unknown): number[] => (Array.isArray(value) ? value.map(Number) : []);
