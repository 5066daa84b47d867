import { z } from 'zod';
import type { SimClock } from './clock.js';
import type { Journal } from './journal.js';
import type { SimRandom } from './seed.js';

/**
 * One rule. `match`: fields that are left out match everything; `op` may end in `*`; `nth` counts the operations that match the other fields, from 1;
 * `window` is [from, to] in simulated milliseconds since the start.
 * `when`: before the effect, after the effect and before the answer, or during (in the task).
 * `effect` and `value`: `status` {status, message} answers that · `reset` cuts the connection (RST) · `drop` ends it without an answer (FIN) · `silence` never answers ·
 * `delay` ms (simulated) · `task-error` the text the task ends with (`after`: the work is done nevertheless; `unexpected status` = its log ends without a verdict) · `hold-lock` ms: somebody else holds the lock of the operation's storage that long.
 */
export const faultRuleSchema = z.strictObject({
  id: z.string().min(1),
  match: z
    .strictObject({
      sim: z.string().optional(),
      op: z.string().optional(),
      node: z.string().optional(),
      vmid: z.number().int().optional(),
      nth: z.union([z.number().int().min(1), z.array(z.number().int().min(1))]).optional(),
      probability: z.number().min(0).max(1).optional(),
      window: z.tuple([z.number(), z.number()]).optional(),
    })
    .prefault({}),
  when: z.enum(['before', 'after', 'during']).default('before'),
  effect: z.enum(['status', 'reset', 'silence', 'delay', 'task-error', 'hold-lock', 'drop']),
  value: z.unknown().optional(),
});
export type FaultRule = z.input<typeof faultRuleSchema>;
type ParsedRule = z.output<typeof faultRuleSchema>;

interface FaultTarget {
  readonly sim: string;
  readonly op: string;
  readonly node?: string;
  readonly vmid?: number;
}

const statusValue = z.strictObject({ status: z.number().int(), message: z.string().default('') }).or(
  z
    .number()
    .int()
    .transform((status) => ({ status, message: '' })),
);

/** What an answer becomes when a fault took it. */
type FaultedAnswer =
  | { readonly kind: 'status'; readonly status: number; readonly message: string }
  | { readonly kind: 'reset' | 'drop' | 'silence' };

/** The rules that fired for one operation: asked once, used at its three points. */
export class FiredFaults {
  constructor(
    readonly rules: readonly ParsedRule[],
    private readonly clock: SimClock,
  ) {}

  /** Ids, for the journal. */
  get ids(): string | undefined {
    return this.rules.length === 0 ? undefined : this.rules.map((rule) => rule.id).join(',');
  }

  /** Waits out delays of this point and says what becomes of the answer. */
  async answer(when: 'before' | 'after'): Promise<FaultedAnswer | undefined> {
    for (const rule of this.rules) {
      if (rule.when !== when) continue;
      if (rule.effect === 'delay') await this.clock.sleep(Number(rule.value ?? 0));
      if (rule.effect === 'status') return { kind: 'status', ...statusValue.parse(rule.value ?? 500) };
      if (rule.effect === 'reset' || rule.effect === 'drop' || rule.effect === 'silence')
        return { kind: rule.effect };
    }
    return undefined;
  }

  /** Called by a task before its work (rules `before` and `during`, delays included) and after it: gives the text that the task must end with. */
  async task(stage: 'during' | 'after', signal: AbortSignal): Promise<string | undefined> {
    for (const rule of this.rules) {
      if (stage === 'during' && rule.when === 'during' && rule.effect === 'delay')
        await this.clock.sleep(Number(rule.value ?? 0), signal);
      if (rule.effect === 'task-error' && (rule.when === 'after') === (stage === 'after'))
        return typeof rule.value === 'string' ? rule.value : 'unexpected error';
    }
    return undefined;
  }

  /** Simulated milliseconds that somebody else holds the lock of this operation. */
  get holdLockMs(): number {
    const rule = this.rules.find(({ effect }) => effect === 'hold-lock');
    return rule === undefined ? 0 : Number(rule.value ?? 0);
  }
}

export class Faults {
  readonly #rules: { rule: ParsedRule; matched: number }[] = [];

  constructor(
    private readonly clock: SimClock,
    private readonly random: SimRandom,
    private readonly journal: Pick<Journal, 'record'>,
    rules: readonly FaultRule[] = [],
  ) {
    for (const rule of rules) this.add(rule);
  }

  add(rule: FaultRule): void {
    this.#rules.push({ rule: faultRuleSchema.parse(rule), matched: 0 });
  }

  remove(id: string): void {
    const at = this.#rules.findIndex(({ rule }) => rule.id === id);
    if (at >= 0) this.#rules.splice(at, 1);
  }

  /** Counts this operation against every rule and gives those that fire. Call it once per operation. */
  match(target: FaultTarget): FiredFaults {
    const fired = this.#rules.filter((entry) => this.#fires(entry, target)).map(({ rule }) => rule);
    for (const rule of fired)
      this.journal.record({
        event: 'fault',
        actor: 'simulator',
        ...target,
        fault: rule.id,
        params: { when: rule.when, effect: rule.effect },
      });
    return new FiredFaults(fired, this.clock);
  }

  #fires(entry: { rule: ParsedRule; matched: number }, target: FaultTarget): boolean {
    const { match, id } = entry.rule;
    if (match.sim !== undefined && match.sim !== target.sim) return false;
    if (match.op !== undefined && !opMatches(match.op, target.op)) return false;
    if (match.node !== undefined && match.node !== target.node) return false;
    if (match.vmid !== undefined && match.vmid !== target.vmid) return false;
    const elapsedMs = this.clock.elapsedMs();
    if (match.window && (elapsedMs < match.window[0] || elapsedMs > match.window[1])) return false;
    entry.matched += 1;
    if (match.nth !== undefined && ![match.nth].flat().includes(entry.matched)) return false;
    return match.probability === undefined || this.random.stream('fault', id).next() < match.probability;
  }
}

function opMatches(pattern: string, op: string): boolean {
  return pattern.endsWith('*') ? op.startsWith(pattern.slice(0, -1)) : pattern === op;
}
