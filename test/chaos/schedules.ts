import { RandomStream } from '../../src/simulators/seed.js';

/** Steps of the student workflow at which a kill may be aimed. */
const STEPS = [
  'reserve',
  'allow-mac',
  'clone',
  'configure',
  'resize',
  'start',
  'address',
  'desktop',
] as const;

export type Action =
  /** `aim`: whoever holds such a step at that moment; else anybody. */
  | { readonly do: 'kill'; readonly aim?: string }
  /** As a host that sleeps: SIGSTOP, and SIGCONT after this time. */
  | { readonly do: 'stall'; readonly ms: number }
  | { readonly do: 'flush' }
  | { readonly do: 'redis'; readonly downMs: number }
  | { readonly do: 'postgres'; readonly downMs: number }
  /** Everything but the simulated systems, at once. */
  | { readonly do: 'restart' }
  | { readonly do: 'cancel' | 'delete'; readonly batch: number };

export interface TimedAction {
  /** Share of the undisturbed makespan at which it comes. */
  readonly at: number;
  readonly action: Action;
}

export interface Schedule {
  /** Batches that the items are divided among. */
  readonly batches: number;
  readonly actions: readonly TimedAction[];
  /** Probability of a fault for each request of Proxmox VE that has an effect. */
  readonly faults: number;
}

export interface ScheduleSize {
  readonly seed: string;
  readonly items: number;
  readonly kills: number;
  /** Of the undisturbed run. */
  readonly makespanMs: number;
}

type Maker = (random: RandomStream, size: ScheduleSize) => Partial<Schedule>;

/** Actions come until here; what is over early is not disturbed. */
const UNTIL = 0.85;

const SCHEDULES: Readonly<Record<string, Maker>> = {
  undisturbed: () => ({}),
  kill: (random, { kills }) => ({ actions: killsOf(random, kills) }),
  flush: (random) => ({ actions: spread(random, 20, () => ({ do: 'flush' })) }),
  postgres: (random, size) => ({ actions: [...outages(random, size), ...killsOf(random, 5)] }),
  restart: (random) => ({
    actions: [0.05, 0.35, 0.6].map((at) => ({ at: at + random.next() * 0.1, action: { do: 'restart' } })),
  }),
  faults: () => ({ faults: 0.1 }),
  cancel: (random, { items, kills }) => {
    const batches = Math.max(2, Math.round(items / 20));
    return { batches, actions: [...killsOf(random, Math.ceil(kills / 10)), ...cancels(random, batches)] };
  },
  mixed: (random, size) => {
    const batches = Math.max(2, Math.round(size.items / 60));
    return {
      batches,
      faults: 0.02,
      actions: [
        ...killsOf(random, Math.ceil(size.kills / 2)),
        ...spread(random, 5, () => ({ do: 'stall', ms: 3_000 + random.integer(17_000) })),
        ...spread(random, 3, () => ({ do: 'flush' })),
        ...spread(random, 2, () => ({ do: 'redis', downMs: 1_000 + random.integer(10_000) })),
        ...outages(random, size).slice(0, 2),
        { at: 0.2 + random.next() * 0.4, action: { do: 'restart' } },
        ...cancels(random, batches).slice(0, 2),
      ],
    };
  },
};

export const SCHEDULE_NAMES: readonly string[] = Object.keys(SCHEDULES);

/** What happens when, by the seed alone. Error: there is none of that name. */
export function scheduleOf(name: string, size: ScheduleSize): Schedule {
  const make = SCHEDULES[name];
  if (make === undefined)
    throw new Error(`Unable to find the schedule ${name}: choose ${SCHEDULE_NAMES.join(', ')}`);
  const { batches = 1, faults = 0, actions = [] } = make(new RandomStream(`${size.seed}|${name}`), size);
  return { batches, faults, actions: [...actions].sort((a, b) => a.at - b.at) };
}

/** Every other kill is aimed at a step, so that short ones are hit too. */
function killsOf(random: RandomStream, count: number): TimedAction[] {
  return spread(random, count, () =>
    random.next() < 0.5 ? { do: 'kill' } : { do: 'kill', aim: STEPS[random.integer(STEPS.length)]! },
  );
}

function outages(random: RandomStream, { makespanMs }: ScheduleSize): TimedAction[] {
  const short = spread(random, 4, () => ({ do: 'postgres', downMs: random.integer(3_000) }) as const);
  // A minute is too much for a run that lasts no longer.
  const long = Math.min(60_000, makespanMs / 5);
  return [...short, { at: 0.3 + random.next() * 0.3, action: { do: 'postgres', downMs: long } }];
}

function cancels(random: RandomStream, batches: number): TimedAction[] {
  const half = Array.from({ length: batches }, (_, batch) => batch).filter((batch) => batch % 2 === 1);
  return half.map((batch) => ({
    at: random.next(),
    action: { do: random.next() < 0.5 ? 'cancel' : 'delete', batch },
  }));
}

function spread(random: RandomStream, count: number, make: () => Action): TimedAction[] {
  return Array.from({ length: count }, () => ({ at: random.next() * UNTIL, action: make() }));
}
