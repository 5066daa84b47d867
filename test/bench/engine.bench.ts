import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { percentile, round, say, type Bench } from './support/bench.js';
import { bareHops, committedUpdates } from './support/engine-floors.js';
import { EngineHarness, STEPS_PER_RUN } from './support/engine-harness.js';
import { benchStores, type BenchStores } from './support/stores.js';

const CPU_BOUND = 1.8;
const FLAT_WITHIN = 0.1;
const BACKLOG_IN_FLIGHT = 50;
/** Runs of a round, by how many are in flight. */
const RUNS: Readonly<Record<number, number>> = { 1: 150, 50: 600 };
const ROUNDS = 3;
/** Runs of a line that is shorter. */
const SHORTEST_STRETCH = 1_000;

/**
 * What a step costs besides what it does: six steps a run that do nothing, against one committed UPDATE and one BullMQ hop a step, measured
 * in turns. Then the same with ever longer backlogs. CPU is that of Node, Postgres and Redis together.
 * Options: `--backlog N` the longest backlog (default 10000), `--rounds N` (default 3).
 */
export const bench: Bench = async (args) => {
  const longest = numberOf(args, '--backlog', 10_000);
  const rounds = numberOf(args, '--rounds', ROUNDS);
  const stores = await benchStores();
  const harness = await EngineHarness.start(stores);
  try {
    const clock = await cpuClock(stores);
    await harness.work({ runs: 300, inFlight: 50, due: 300 }, { begin: async () => {}, end: async () => {} });
    const perStep: Record<string, Awaited<ReturnType<typeof compare>>> = {};
    for (const inFlight of [1, 50])
      perStep[inFlight] = await compare(harness, stores, clock, inFlight, rounds);
    const backlogs = await growBacklog(harness, clock, longest);
    const isCheap = Object.values(perStep).every((one) => one.cpuOverFloors <= CPU_BOUND);
    const isFlat = [backlogs.cpu, backlogs.sql, backlogs.heap, backlogs.rss].every(
      (grown) => grown <= FLAT_WITHIN,
    );
    return { isMet: isCheap && isFlat, isCheap, isFlat, inFlight: perStep, backlogs };
  } finally {
    await harness.close();
    await stores.close();
  }
};

function numberOf(args: readonly string[], name: string, otherwise: number): number {
  const at = args.indexOf(name);
  return at === -1 ? otherwise : Number(args[at + 1]);
}

interface CpuSeconds {
  readonly node: number;
  readonly postgres: number;
  readonly redis: number;
  readonly all: number;
}

/** Gives what this process and the stores have used since it was asked last. */
type Clock = () => Promise<CpuSeconds>;

async function cpuClock(stores: BenchStores): Promise<Clock> {
  const ownSeconds = (): number => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  };
  // Looking at all processes is work too, and nobody's.
  const read = async () => {
    const until = ownSeconds();
    const { postgres, redis } = await stores.cpuSeconds();
    return { until, postgres, redis, from: ownSeconds() };
  };
  let last = await read();
  return async () => {
    const now = await read();
    const node = now.until - last.from;
    const postgres = now.postgres - last.postgres;
    const redis = now.redis - last.redis;
    last = now;
    return { node, postgres, redis, all: node + postgres + redis };
  };
}

/** CPU of stretches, taken by `around`. */
function meter(clock: Clock) {
  const used: CpuSeconds[] = [];
  return {
    used,
    around: {
      begin: async () => void (await clock()),
      end: async () => void used.push(await clock()),
    },
  };
}

async function compare(
  harness: EngineHarness,
  stores: BenchStores,
  clock: Clock,
  inFlight: number,
  rounds: number,
) {
  const runs = RUNS[inFlight]!;
  const steps = runs * STEPS_PER_RUN;
  const [update, hop, product] = [meter(clock), meter(clock), meter(clock)];
  const seconds = { update: 0, hop: 0, product: 0 };
  const handOffsMs: number[] = [];
  const hopsMs: number[] = [];
  let statements = 0;
  for (let round = 0; round < rounds; round += 1) {
    seconds.update += await committedUpdates(stores.postgresUrl, { count: steps, inFlight }, update.around);
    const hops = await bareHops(stores.redisUrl, { count: steps, inFlight }, hop.around);
    seconds.hop += hops.seconds;
    hopsMs.push(...hops.hopsMs);
    const stretch = await harness.work({ runs, inFlight, due: inFlight }, product.around);
    seconds.product += stretch.seconds;
    statements += stretch.statements;
    handOffsMs.push(...stretch.handOffsMs);
  }
  const all = steps * rounds;
  const cpu = (one: ReturnType<typeof meter>) => perThousand(one.used, all);
  const floorsMs = cpu(update).all + cpu(hop).all;
  const figures = {
    cpuOverFloors: round(cpu(product).all / floorsMs, 2),
    cpuSecondsPer1000: { product: cpu(product), update: cpu(update), hop: cpu(hop) },
    stepsPerSecond: {
      product: round(all / seconds.product, 0),
      update: round(all / seconds.update, 0),
      hop: round(all / seconds.hop, 0),
    },
    handOffMs: { p50: round(percentile(handOffsMs, 0.5), 2), p99: round(percentile(handOffsMs, 0.99), 2) },
    hopMs: { p50: round(percentile(hopsMs, 0.5), 2), p99: round(percentile(hopsMs, 0.99), 2) },
    statementsPerStep: round(statements / all, 2),
  };
  say(`${inFlight} in flight: ${JSON.stringify(figures)}`);
  return figures;
}

function perThousand(used: readonly CpuSeconds[], steps: number): CpuSeconds {
  const of = (part: keyof CpuSeconds): number =>
    round((used.reduce((sum, one) => sum + one[part], 0) / steps) * 1000);
  return { node: of('node'), postgres: of('postgres'), redis: of('redis'), all: of('all') };
}

/**
 * Lines of 100, 1,000 ... runs that are due; how much more a run costs behind more of them. The short lines are kept as long as they are for
 * a thousand runs: a hundred alone begin and end in step, which no class does.
 */
async function growBacklog(harness: EngineHarness, clock: Clock, longest: number) {
  const rows = [];
  for (let line = 100; line <= longest; line *= 10) {
    const runs = Math.max(line, SHORTEST_STRETCH);
    const { used, around } = meter(clock);
    const { statements } = await harness.work({ runs, inFlight: BACKLOG_IN_FLIGHT, due: line }, around);
    const { node, postgres, redis, all } = used[0]!;
    const perRun = (seconds: number): number => round((seconds / runs) * 1000, 2);
    const row = {
      line,
      cpuMsPerRun: perRun(all),
      cpuMsOf: { node: perRun(node), postgres: perRun(postgres), redis: perRun(redis) },
      sqlPerRun: round(statements / runs, 2),
      ...memory(),
    };
    say(`backlog: ${JSON.stringify(row)}`);
    rows.push(row);
  }
  const growth = (values: readonly number[]): number => round(Math.max(...values) / values[0]! - 1);
  return {
    cpu: growth(rows.map((row) => row.cpuMsPerRun)),
    sql: growth(rows.map((row) => row.sqlPerRun)),
    heap: growth(rows.map((row) => row.heapMiB)),
    rss: growth(rows.map((row) => row.rssMiB)),
    rows,
  };
}

/** Of this process, after a full collection. */
function memory(): { heapMiB: number; rssMiB: number } {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  const { heapUsed, rss } = process.memoryUsage();
  return { heapMiB: round(heapUsed / 2 ** 20, 1), rssMiB: round(rss / 2 ** 20, 1) };
}
