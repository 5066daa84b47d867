import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { z } from 'zod';
import { HatcheryError } from '../core/errors.js';
import { faultRulesSchema, type FaultRule } from './faults.js';
import { isTransport, type TransportName } from './names.js';
import { RandomStream } from './seed.js';

/**
 * A schedule: everything that goes wrong in one run, in one YAML file. Times are seconds of wall-clock time since the run began (`90`) or a share of
 * what the same run takes undisturbed (`"40%"`).
 *
 * - `itemsPerBatch`: how the run's machines are divided; left out = one batch.
 * - `faults`: rules as in faults.ts, for simulators and transports alike; instead of `match.window` a rule has `during: [from, to]`.
 * - `actors`: who else works on the cluster all the time, as `hatchery simulate foreign` does: `person` or `deployment`, `everySeconds` between two deeds, on average.
 * - `actions`: what the runner does to the product and its stores. When: `at` one or several times, `every` so often, or `count` times at random moments (drawn
 *   from the seed); `every` and `count` between `between` (default `["0%", "85%"]`: what is over early is not disturbed). Each happens with `probability` (default 1).
 *   `kill` a worker, one that holds a step of `aim` if there is one · `stall` a worker (SIGSTOP) `for` a time · `flush` Redis · `redis`, `postgres`: the store is down `for` a time ·
 *   `restart` everything but the simulated systems · `cancel`, `delete` so many `batches` (a share), each once · `upgrade` the workers, one after the other, `to` the newer or the older build.
 *   `for` is a time or `[least, most]`, drawn from the seed.
 */
const time = z.union([z.number().min(0), z.string().regex(/^\d+(\.\d+)?%$/, 'write seconds, or "40%"')]);
type Time = z.output<typeof time>;

const when = {
  at: z.union([time, z.array(time).min(1)]).optional(),
  every: time.optional(),
  count: z.number().int().min(1).optional(),
  between: z.tuple([time, time]).default(['0%', '85%']),
  probability: z.number().min(0).max(1).default(1),
};
const lasting = z.union([time, z.tuple([time, time])]);
const share = z.string().regex(/^\d+(\.\d+)?%$/, 'write a share, e.g. "25%"');

const action = z.discriminatedUnion('do', [
  z.strictObject({ do: z.literal('kill'), ...when, aim: z.array(z.string().min(1)).min(1).optional() }),
  z.strictObject({ do: z.literal('stall'), ...when, for: lasting }),
  z.strictObject({ do: z.literal('flush'), ...when }),
  z.strictObject({ do: z.literal('redis'), ...when, for: lasting }),
  z.strictObject({ do: z.literal('postgres'), ...when, for: lasting }),
  z.strictObject({ do: z.literal('restart'), ...when }),
  z.strictObject({ do: z.literal('upgrade'), ...when, to: z.enum(['newer', 'older']) }),
  z.strictObject({ do: z.literal('cancel'), batches: share, between: when.between }),
  z.strictObject({ do: z.literal('delete'), batches: share, between: when.between }),
]);
type ScheduledAction = z.output<typeof action>;
type TimedKind = Extract<ScheduledAction, { count?: number | undefined; probability: number }>;

const scheduleSchema = z
  .strictObject({
    itemsPerBatch: z.number().int().min(1).optional(),
    faults: z
      .array(z.looseObject({ during: z.tuple([time, time]).optional() }))
      .default([])
      .transform((entries, context) => {
        const parts = entries.map(({ during, ...rule }) => ({ during, rule }));
        return {
          rules: checkedRules(
            parts.map(({ rule }) => rule),
            context,
          ),
          during: new Map(parts.map(({ during, rule }) => [String(rule['id']), during])),
        };
      }),
    actors: z
      .array(z.strictObject({ who: z.enum(['person', 'deployment']), everySeconds: z.number().positive() }))
      .default([]),
    actions: z.array(action).default([]),
  })
  .superRefine(({ actions }, context) => {
    for (const [index, one] of actions.entries()) {
      if (one.do === 'cancel' || one.do === 'delete') continue;
      if ([one.at, one.every, one.count].filter((way) => way !== undefined).length !== 1)
        context.addIssue({
          code: 'custom',
          path: ['actions', index],
          message: 'write one of at, every, count',
        });
    }
  });
export type Schedule = z.output<typeof scheduleSchema>;

/** What the runner does at one moment. */
export type Action =
  | { readonly do: 'kill'; readonly aim?: string }
  | { readonly do: 'stall'; readonly ms: number }
  | { readonly do: 'flush' | 'restart' }
  | { readonly do: 'redis' | 'postgres'; readonly downMs: number }
  | { readonly do: 'cancel' | 'delete'; readonly batch: number }
  | { readonly do: 'upgrade'; readonly to: 'newer' | 'older' };

export interface TimedAction {
  /** Since the run began. */
  readonly atMs: number;
  readonly action: Action;
}

export interface RunSize {
  readonly seed: string;
  readonly items: number;
  /** What the same run takes when nobody disturbs it: 100 %. */
  readonly makespanMs: number;
  /** So many instead of what the file counts, in its proportions. */
  readonly kills?: number;
}

/** A clock on which a rule's window is told. */
export interface RuleClock {
  /** What it says when the run begins, in its own milliseconds. */
  readonly startMs: number;
  readonly timeScale: number;
  /** Left out = the file may not write shares of it. */
  readonly makespanMs?: number;
}

/** Reads a schedule. Error: `settings-invalid`, with the place in the file. */
export function readSchedule(file: string): Schedule {
  return scheduleOf(parse(readFileSync(file, 'utf8')), file);
}

export function scheduleOf(content: unknown, file: string): Schedule {
  const parsed = scheduleSchema.safeParse(content);
  if (parsed.success) return parsed.data;
  throw new HatcheryError(
    'settings-invalid',
    `Unable to read the schedule ${file}: ${z.prettifyError(parsed.error)}`,
  );
}

/** How many batches the machines of the run come in. */
export function batchesOf({ itemsPerBatch }: Schedule, items: number): number {
  return itemsPerBatch === undefined ? 1 : Math.max(2, Math.round(items / itemsPerBatch));
}

/** What happens when, by the seed alone, in the order of time. An action's moments do not change when another one is added. */
export function actionsOf(schedule: Schedule, size: RunSize): TimedAction[] {
  const counted = schedule.actions.reduce((sum, one) => sum + (one.do === 'kill' ? (one.count ?? 0) : 0), 0);
  const killShare = size.kills === undefined || counted === 0 ? 1 : size.kills / counted;
  const batches = batchesOf(schedule, size.items);
  const left = Array.from({ length: batches }, (_, batch) => batch);
  return schedule.actions
    .flatMap((one, index) => {
      if (one.do === 'cancel' || one.do === 'delete') return givenUp(one, left, batches, size);
      const random = new RandomStream(`${size.seed}|${index}|${one.do}`);
      const count = one.do === 'kill' ? Math.round((one.count ?? 0) * killShare) : (one.count ?? 0);
      return momentsOf(one, count, random, size)
        .filter(() => random.next() < one.probability)
        .map((atMs) => ({ atMs, action: drawn(one, random, size) }));
    })
    .toSorted((a, b) => a.atMs - b.atMs);
}

/** The rules that simulators (or one kind of transport) get, with windows on their own clock. */
export function rulesOf(
  { faults }: Schedule,
  sim: 'simulators' | TransportName,
  clock: RuleClock,
): FaultRule[] {
  return faults.rules
    .filter(({ match }) => (sim === 'simulators' ? !isTransport(match?.sim ?? '') : match?.sim === sim))
    .map((rule) => {
      const during = faults.during.get(rule.id);
      if (during === undefined) return rule;
      const [from, to] = during.map((one) => clock.startMs + msOf(one, clock.makespanMs) / clock.timeScale);
      return { ...rule, match: { ...rule.match, window: [from!, to!] } };
    });
}

/** Before which stores and servers a transport must stand. */
export function transportsOf({ faults }: Schedule): TransportName[] {
  return [...new Set(faults.rules.flatMap(({ match }) => match?.sim ?? []).filter(isTransport))];
}

function checkedRules(rules: readonly object[], context: z.core.$RefinementCtx): FaultRule[] {
  const parsed = faultRulesSchema.safeParse(rules);
  for (const { path, message } of parsed.error?.issues ?? [])
    context.addIssue({ code: 'custom', path: [...path], message });
  for (const [index, rule] of (parsed.data ?? []).entries())
    if (rule.match.window !== undefined)
      context.addIssue({ code: 'custom', path: [index, 'match'], message: 'write during instead of window' });
  return parsed.data ?? [];
}

function momentsOf(one: TimedKind, count: number, random: RandomStream, { makespanMs }: RunSize): number[] {
  const [from, to] = one.between.map((edge) => msOf(edge, makespanMs)) as [number, number];
  if (one.at !== undefined) return [one.at].flat().map((at) => msOf(at, makespanMs));
  if (one.every === undefined) return Array.from({ length: count }, () => from + random.next() * (to - from));
  const stepMs = Math.max(1, msOf(one.every, makespanMs));
  return Array.from({ length: Math.floor((to - from) / stepMs) }, (_, index) => from + (index + 1) * stepMs);
}

function drawn(one: TimedKind, random: RandomStream, { makespanMs }: RunSize): Action {
  switch (one.do) {
    case 'kill':
      return one.aim === undefined
        ? { do: 'kill' }
        : { do: 'kill', aim: one.aim[random.integer(one.aim.length)]! };
    case 'stall':
      return { do: 'stall', ms: lengthOf(one.for, random, makespanMs) };
    case 'redis':
    case 'postgres':
      return { do: one.do, downMs: lengthOf(one.for, random, makespanMs) };
    case 'upgrade':
      return { do: 'upgrade', to: one.to };
    default:
      return { do: one.do };
  }
}

function lengthOf(length: z.output<typeof lasting>, random: RandomStream, makespanMs: number): number {
  if (!Array.isArray(length)) return msOf(length, makespanMs);
  const [least, most] = length.map((edge) => msOf(edge, makespanMs)) as [number, number];
  return least + random.next() * (most - least);
}

/** Batches that nobody else gives up, at moments of their own. */
function givenUp(
  one: Extract<ScheduledAction, { do: 'cancel' | 'delete' }>,
  left: number[],
  batches: number,
  { seed, makespanMs }: RunSize,
): TimedAction[] {
  const random = new RandomStream(`${seed}|${one.do}`);
  const [from, to] = one.between.map((edge) => msOf(edge, makespanMs)) as [number, number];
  const count = Math.max(1, Math.round((batches * Number.parseFloat(one.batches)) / 100));
  return Array.from({ length: Math.min(count, left.length) }, () => {
    const [batch] = left.splice(random.integer(left.length), 1);
    return { atMs: from + random.next() * (to - from), action: { do: one.do, batch: batch! } };
  });
}

function msOf(one: Time, makespanMs: number | undefined): number {
  if (typeof one === 'number') return one * 1_000;
  if (makespanMs === undefined)
    throw new HatcheryError(
      'settings-invalid',
      `Unable to use the time ${one}: nobody knows how long this takes`,
      {
        hint: 'Write seconds.',
      },
    );
  return (Number.parseFloat(one) / 100) * makespanMs;
}
