import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { actSchema, isActOf, type Act, type Actor, type ActTarget } from './acts.js';
import type { SimClock } from './clock.js';
import type { Journal } from './journal.js';
import { isTransport, SIMULATOR_NAMES, TRANSPORT_NAMES, type SimulatorName } from './names.js';
import type { SimRandom } from './seed.js';

/**
 * One rule. `match`: fields that are left out match everything, only a transport is disturbed by no rule that does not name it in `sim`; `op` may end in `*`;
 * `nth` counts the operations that match the other fields, from 1; `window` is [from, to] in milliseconds of the clock of `sim` since its start: simulated
 * time for simulators, wall-clock time for transports. `probability` is drawn from the seed and the rule's id alone: how often other rules are asked changes nothing.
 * `when`: before the effect, after the effect and before the answer, during (in the middle of the task: for a clone its temporary config is there and no disk yet) or end (the task's work is done, its verdict not written).
 * `effect` and `value`: `status` {status, message} answers that · `reset` cuts the connection (RST) · `drop` ends it without an answer (FIN) · `silence` never answers · `truncate` n: the connection ends after n bytes of the answer ·
 * `omit` text: this field is missing in the answer's data, or in every row of a list · `delay` ms (simulated) · `task-error` the text the task ends with (`after`: the work is done nevertheless; `unexpected status` = its log ends without a verdict) ·
 * `hold-lock` ms: somebody else holds the lock of the operation's storage that long · `act` {do, ...}: changes the world, see acts.ts.
 * Windows and Guacamole know before and after for every message. A script of Windows is an operation beside its messages, `winrm.script.<name>`, for which only rules that begin with that hold:
 * `act` at all three, `delay` before and during, `drop` during = it seems to have run and did nothing, after = its output is lost; `task-error` text on the error stream with
 * exit code 0, during = instead of its work, after = besides; `truncate` after = of its output.
 * On a transport (`redis`, `postgres`, `http`; what an op is, see transport/) there are only before and after, and of these effects `delay`, `reset`, `drop`, `silence`, `truncate` and besides
 * `cut` ms: every connection is reset and new ones are refused that long. Before = the request never reaches the other side; after = it was answered, and nothing of the answer comes through.
 */
const VALUES = {
  delay: z.number().min(0),
  cut: z.number().positive(),
  act: actSchema,
  truncate: z.number().int().min(0),
  omit: z.string().min(1),
} as const;

const rule = z.strictObject({
  id: z.string().min(1),
  match: z
    .strictObject({
      sim: z.enum([...SIMULATOR_NAMES, ...TRANSPORT_NAMES]).optional(),
      op: z.string().optional(),
      node: z.string().optional(),
      vmid: z.number().int().optional(),
      nth: z.union([z.number().int().min(1), z.array(z.number().int().min(1))]).optional(),
      probability: z.number().min(0).max(1).optional(),
      window: z.tuple([z.number(), z.number()]).optional(),
    })
    .prefault({}),
  when: z.enum(['before', 'after', 'during', 'end']).default('before'),
  effect: z.enum([
    'status',
    'reset',
    'silence',
    'delay',
    'task-error',
    'hold-lock',
    'drop',
    'truncate',
    'omit',
    'act',
    'cut',
  ]),
  value: z.unknown().optional(),
});
type Effect = z.output<typeof rule>['effect'];
type Point = z.output<typeof rule>['when'];

const REQUEST: readonly Effect[] = ['status', 'reset', 'drop', 'silence', 'delay', 'truncate', 'act'];
const TRANSPORT: readonly Effect[] = ['delay', 'reset', 'drop', 'silence', 'cut'];
/** What can happen to a script of Windows beside the messages that start it and fetch its output. */
const SCRIPT_OP = 'winrm.script.';
const SCRIPT: Readonly<Partial<Record<Point, readonly Effect[]>>> = {
  before: ['delay', 'act'],
  during: ['delay', 'act', 'drop', 'task-error'],
  after: ['act', 'drop', 'task-error', 'truncate'],
};

/** The effects that a rule can have at its point; `undefined` = all that no transport alone has. */
function possible({ match: { sim, op = '' }, when }: z.output<typeof rule>): readonly Effect[] | undefined {
  if (sim === undefined || sim === 'proxmox') return undefined;
  if (op.startsWith(SCRIPT_OP)) return SCRIPT[when] ?? [];
  if (when !== 'before' && when !== 'after') return [];
  if (sim === 'winrm') return REQUEST;
  if (sim === 'guacamole') return [...REQUEST, 'omit'];
  return when === 'after' ? [...TRANSPORT, 'truncate'] : TRANSPORT;
}

/** Why a rule could never do what it says, or nothing. */
function contradiction(parsed: z.output<typeof rule>): string | undefined {
  const { match, when, effect } = parsed;
  const { sim } = match;
  const effects = possible(parsed);
  if (effects === undefined ? effect === 'cut' : !effects.includes(effect))
    return `${sim ?? 'a simulator'} knows no ${effect} ${when}${match.op === undefined ? '' : ` ${match.op}`}`;
  if (sim !== undefined && sim !== 'proxmox' && (match.node !== undefined || match.vmid !== undefined))
    return `${sim} knows no node and no vmid`;
  return undefined;
}

function strayAct({ match: { sim } }: z.output<typeof rule>, value: unknown): string | undefined {
  const name = (value as Partial<Act> | undefined)?.do;
  if (name === undefined || sim === undefined || isTransport(sim) || isActOf(sim, name)) return undefined;
  return `${sim} knows no act ${name}`;
}

/** Rules are checked when they are read, not when they fire. */
export const faultRuleSchema = rule.transform((parsed, context) => {
  const shape = VALUES[parsed.effect as keyof typeof VALUES] as z.ZodType | undefined;
  const value = shape?.safeParse(parsed.value);
  for (const issue of value?.error?.issues ?? [])
    context.addIssue({ code: 'custom', path: ['value', ...issue.path], message: issue.message });
  const wrong = contradiction(parsed) ?? strayAct(parsed, value?.data);
  if (wrong !== undefined) context.addIssue({ code: 'custom', path: ['effect'], message: wrong });
  return value?.success ? { ...parsed, value: value.data } : parsed;
});
export type FaultRule = z.input<typeof faultRuleSchema>;

/** Several rules, each with an id of its own. */
export const faultRulesSchema = z.array(faultRuleSchema).superRefine((rules, context) => {
  const seen = new Set<string>();
  for (const [index, { id }] of rules.entries()) {
    if (seen.has(id))
      context.addIssue({ code: 'custom', path: [index, 'id'], message: `another rule is called ${id}` });
    seen.add(id);
  }
});
type ParsedRule = z.output<typeof faultRuleSchema>;

interface FaultTarget {
  readonly sim: string;
  readonly op: string;
  readonly node?: string;
  readonly vmid?: number;
  readonly params?: Readonly<Record<string, unknown>>;
}

const statusValue = z.strictObject({ status: z.number().int(), message: z.string().default('') }).or(
  z
    .number()
    .int()
    .transform((status) => ({ status, message: '' })),
);

/** What an answer becomes when a fault took it. */
export type FaultedAnswer =
  | { readonly kind: 'status'; readonly status: number; readonly message: string }
  | { readonly kind: 'truncate'; readonly bytes: number }
  | { readonly kind: 'omit'; readonly field: string }
  | { readonly kind: 'cut'; readonly forMs: number }
  | { readonly kind: 'reset' | 'drop' | 'silence' };

type RulePoint = ParsedRule['when'];

/** The rules that fired for one operation: asked once, used at its three points. */
export class FiredFaults {
  constructor(
    readonly rules: readonly ParsedRule[],
    private readonly clock: SimClock,
    private readonly target: FaultTarget,
    private readonly actors: ReadonlyMap<string, Actor>,
  ) {}

  /** Ids, for the journal. */
  get ids(): string | undefined {
    return this.rules.length === 0 ? undefined : this.rules.map((rule) => rule.id).join(',');
  }

  /** Waits out delays of this point, does its acts and says what becomes of the answer. */
  async answer(when: 'before' | 'after'): Promise<FaultedAnswer | undefined> {
    await this.act(when);
    for (const rule of this.rules) {
      if (rule.when !== when) continue;
      if (rule.effect === 'delay') await this.clock.sleep(Number(rule.value ?? 0));
      if (rule.effect === 'status') return { kind: 'status', ...statusValue.parse(rule.value ?? 500) };
      if (rule.effect === 'truncate') return { kind: 'truncate', bytes: Number(rule.value) };
      if (rule.effect === 'omit') return { kind: 'omit', field: String(rule.value) };
      if (rule.effect === 'cut') return { kind: 'cut', forMs: Number(rule.value) };
      if (rule.effect === 'reset' || rule.effect === 'drop' || rule.effect === 'silence')
        return { kind: rule.effect };
    }
    return undefined;
  }

  /** Changes the world as the rules of this point say; `more` = what is known of the operation only now. */
  async act(when: RulePoint, more: Partial<ActTarget> = {}): Promise<void> {
    for (const rule of this.rules) {
      if (rule.effect !== 'act' || rule.when !== when) continue;
      const perform = this.actors.get(this.target.sim);
      if (!perform) throw new Error(`fault ${rule.id}: nothing acts for ${this.target.sim}`);
      await perform(rule.value as Act, { ...this.target, ...more });
    }
  }

  /** The rule's act of this name, for what only the operation itself can do. */
  own<Name extends Act['do']>(name: Name): Extract<Act, { do: Name }> | undefined {
    return this.rules
      .filter(({ effect }) => effect === 'act')
      .map(({ value }) => value as Act)
      .find((act): act is Extract<Act, { do: Name }> => act.do === name);
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

  /** The rule of this effect at this point. */
  at(when: RulePoint, effect: ParsedRule['effect']): ParsedRule | undefined {
    return this.rules.find((rule) => rule.when === when && rule.effect === effect);
  }

  /** Simulated milliseconds that somebody else holds the lock of this operation. */
  get holdLockMs(): number {
    const rule = this.rules.find(({ effect }) => effect === 'hold-lock');
    return rule === undefined ? 0 : Number(rule.value ?? 0);
  }
}

export class Faults {
  readonly #rules: { rule: ParsedRule; matched: number }[] = [];
  readonly #actors = new Map<string, Actor>();

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

  /** Puts these rules in the place of all; one that was there already, unchanged, goes on counting. */
  replace(rules: readonly FaultRule[]): void {
    const before = this.#rules.splice(0);
    for (const rule of rules) {
      const parsed = faultRuleSchema.parse(rule);
      this.#rules.push(
        before.find((entry) => isDeepStrictEqual(entry.rule, parsed)) ?? { rule: parsed, matched: 0 },
      );
    }
  }

  /** A simulator says who does the acts of its rules. */
  actsOf(sim: string, actor: Actor): void {
    this.#actors.set(sim, actor);
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
    return new FiredFaults(fired, this.clock, target, this.#actors);
  }

  #fires(entry: { rule: ParsedRule; matched: number }, target: FaultTarget): boolean {
    const { rule } = entry;
    const { match, id } = rule;
    if (match.sim === undefined ? isTransport(target.sim) : match.sim !== target.sim) return false;
    if (match.op !== undefined && !opMatches(match.op, target.op)) return false;
    if (target.op.startsWith(SCRIPT_OP) && match.op?.startsWith(SCRIPT_OP) !== true) return false;
    if (rule.effect === 'act' && !isActOf(target.sim as SimulatorName, (rule.value as Act).do)) return false;
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
