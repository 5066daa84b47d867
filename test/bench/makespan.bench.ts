import { parseArgs } from 'node:util';
import { answer } from '../../src/cli/api.js';
import { planBatch } from '../../src/client/sdk.gen.js';
import type { WorldSpec } from '../../src/simulators/build-world.js';
import { type Bench, percentile, round, say } from './support/bench.js';
import { distance, stepDelays, timeline, type StepDelays } from './support/distance.js';
import { bestRun, bootsOf, criticalPathMs, idealRun, type IdealClass } from './support/ideal-cluster.js';
import type { IdealContainer } from './support/ideal-container.js';
import { followToEnd, rosterOf, startProduct, submitRoster } from './support/product.js';
import { recordRun, type RunRecord } from './support/run-record.js';

/** Cores of this host that the product may use. */
const CORES = 2;
/** Boots that differ by about 10 %: what is measured is the work, not the luck of the last boot. */
const WORLD: WorldSpec = {
  boot: { medianMs: 25_000, p95Ms: 27_500 },
  firstBoot: { medianMs: 40_000, p95Ms: 44_000 },
};
const BOUNDS = {
  overReference: 1.25,
  firstOverCriticalPath: 1.2,
  medianShare: 0.6,
  lockTimeoutsPerMachine: 0.02,
  proxmoxCallsPerMachine: 10,
  winrmCommandsPerMachine: 0.2,
  cpuShare: 0.4,
  /** Flat = of the largest class at most so much above that of the smallest: by the share, or by the amount where that is more. */
  growth: { share: 1.1, calls: 0.2, commands: 0.02 },
} as const;
/** A copy of a container template makes one clone at a time: two on each node keep the storage busy. */
const CONTAINER_WORLD: WorldSpec = {
  ...WORLD,
  containerTemplates: ['pve1', 'pve2', 'pve3', 'pve1', 'pve2', 'pve3'].map((node, index) => ({
    vmid: 9_100 + index,
    node,
    name: 'debian-12-desktop-lxc',
  })),
};
const CONTAINER_BOUNDS = { overReference: BOUNDS.overReference } as const;

const DESKTOP = 'student-desktop';
/** What the shipped blueprints of containers ask for. */
const CONTAINERS: Readonly<Record<string, IdealContainer>> = {
  'debian-12-lxc': { source: 'archive', storage: 'ceph', isOnNode: true, hasFirstBoot: false },
  'debian-desktop-lxc': { source: 'templates', storage: 'ceph', isOnNode: true, hasFirstBoot: true },
};

interface Variant {
  readonly name: string;
  readonly machines: number;
  readonly world: WorldSpec;
  readonly of: IdealClass['of'];
  readonly phoneHome?: boolean;
  /** A shipped one (`student-desktop`). */
  readonly blueprint?: string;
  /** YAML of a blueprint of the variant's name, where the shipped one does not do. */
  readonly ownBlueprint?: string;
}

const blueprint = (name: string, source: string): string => `
name: ${name}
version: 1
title: { en: Student desktop, fr: Poste étudiant }
kind: qemu
source: ${source}
sizes: { default: small, small: { cores: 2, memoryMiB: 4096, diskGiB: 20 } }
nameFrom: vm-{login}
network: { bridge: vmbr0, dhcp: dhcp }
cloudInit: { user: student, sshKeys: [roster] }
access: { service: guacamole, protocol: rdp, port: 3389, signIn: prompt }
workflow: student-vm
clusters: [main]
`;

const LOCAL_TEMPLATES = ['pve1', 'pve2', 'pve3'].map((node, index) => ({
  vmid: 9000 + index,
  node,
  name: `debian-12-${node}`,
  storage: 'local-lvm',
}));

/** Measured and printed, without bounds. */
const VARIANTS: readonly Variant[] = [
  { name: 'legacy-polling', machines: 48, of: 'linked', world: { ...WORLD, version: '8.4' } },
  {
    name: 'local-storages',
    machines: 48,
    of: 'linked',
    world: { ...WORLD, templates: LOCAL_TEMPLATES },
    ownBlueprint: blueprint(
      'local-storages',
      `{ templates: [${LOCAL_TEMPLATES.map(({ name }) => name).join(', ')}], clone: linked }`,
    ),
  },
  {
    name: 'phone-home',
    machines: 48,
    of: 'linked',
    world: WORLD,
    phoneHome: true,
  },
  {
    name: 'full-clones',
    machines: 4,
    of: 'full',
    world: WORLD,
    ownBlueprint: blueprint('full-clones', '{ templates: [debian-12-xfce], clone: full }'),
  },
];

interface Options {
  readonly blueprint: string;
  readonly machines: readonly number[];
  readonly variants: readonly string[];
  readonly timeScale: number;
  readonly seed: string;
  readonly workers: number;
}

function readOptions(args: readonly string[]): Options {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({
    args: [...args],
    options: {
      blueprint: { ...text, default: DESKTOP },
      machines: { ...text, default: '120,600' },
      variants: text,
      'time-scale': { ...text, default: '0.4' },
      seed: { ...text, default: '1' },
      workers: { ...text, default: '2' },
    },
  });
  const { blueprint } = values;
  if (blueprint !== DESKTOP && CONTAINERS[blueprint] === undefined)
    throw new Error(
      `Unable to measure ${blueprint}: write ${[DESKTOP, ...Object.keys(CONTAINERS)].join(', ')}`,
    );
  const list = (one: string): string[] => one.split(',').filter((part) => part !== '');
  const everyVariant = blueprint === DESKTOP ? VARIANTS.map(({ name }) => name) : [];
  return {
    blueprint,
    machines: list(values.machines).map(Number),
    variants: values.variants === undefined ? everyVariant : list(values.variants),
    timeScale: Number(values['time-scale']),
    seed: values.seed,
    workers: Number(values.workers),
  };
}

/**
 * How long the product takes to make a class, over how long the ideal cluster takes on the same draws (support/ideal-cluster.ts).
 * --blueprint student-desktop|debian-12-lxc|debian-desktop-lxc (of virtual machines alone there are variants and bounds besides the makespan's)
 * --machines 120,600 --variants legacy-polling,local-storages,phone-home,full-clones --time-scale 0.4 --seed 1 --workers 2; `--variants ''` = none.
 */
export const bench: Bench = async (args) => {
  const options = readOptions(args);
  const classes: Measured[] = [];
  const { blueprint } = options;
  const of = CONTAINERS[blueprint] ?? 'linked';
  const world = of === 'linked' ? WORLD : CONTAINER_WORLD;
  for (const machines of options.machines)
    classes.push(await measure(options, { name: `${machines}`, machines, world, of, blueprint }));
  const variants: Measured[] = [];
  for (const variant of VARIANTS)
    if (options.variants.includes(variant.name)) variants.push(await measure(options, variant));
  const missed =
    of === 'linked'
      ? [...classes.flatMap((one) => missedBounds(one, BOUNDS)), ...grownFigures(classes)]
      : classes.flatMap((one) => missedBounds(one, CONTAINER_BOUNDS));
  for (const sentence of missed) say(`not met: ${sentence}`);
  return {
    isMet: missed.length === 0,
    missed,
    blueprint,
    timeScale: options.timeScale,
    seed: options.seed,
    classes,
    variants,
  };
};

type Measured = Awaited<ReturnType<typeof measure>>;

/** One class on a fresh product. Durations in simulated seconds. */
async function measure({ timeScale, seed, workers }: Options, variant: Variant) {
  const { name, machines, world, of, ownBlueprint, blueprint = DESKTOP } = variant;
  say(`${name}: ${machines} machines ...`);
  const product = await startProduct({
    timeScale,
    seed,
    world,
    workers,
    phoneHome: variant.phoneHome ?? false,
    ...(ownBlueprint === undefined ? {} : { blueprints: { [name]: ownBlueprint } }),
  });
  try {
    const client = await product.signIn('teacher');
    const roster = await rosterOf(machines);
    const chosen = ownBlueprint === undefined ? blueprint : name;
    const list = new File([roster], 'class.csv', { type: 'text/csv' });
    const plan = await answer(
      planBatch({ client, body: { roster: list, blueprint: chosen, name: 'class' } }),
    );
    /** Exact times, and not whole seconds, of which one is many where time is scaled down. */
    const secondsUntil = (iso: string | null | undefined): number | undefined =>
      iso == null ? undefined : (Date.parse(iso) - Date.now()) / 1000 / timeScale;
    const planned = secondsUntil(plan.expectedReadyAt);
    const cpuBefore = await product.cpuSeconds();
    const { batch, sentAtNs, acceptedAtNs } = await submitRoster(client, {
      name: 'class',
      roster,
      blueprint: chosen,
    });
    const simSeconds = (ns: bigint): number => Number(ns - acceptedAtNs) / 1e9 / timeScale;
    const told: Told[] = [];
    let tenthsReady = 0;
    const { readyAtNs } = await followToEnd(product, client, batch, ({ type, data }) => {
      const remaining = secondsUntil(data?.expectedReadyAt);
      if (type !== 'batch.progress') return;
      const at = simSeconds(process.hrtime.bigint());
      if (remaining !== undefined) told.push({ at, remaining });
      const tenths = Math.floor((10 * (data?.counts.ready ?? 0)) / machines);
      if (tenths > tenthsReady) say(`  ${at.toFixed(0).padStart(5)} s  ${data!.counts.ready} ready`);
      tenthsReady = tenths;
    });
    const cpuAfter = await product.cpuSeconds();
    const inOrder = [...readyAtNs].toSorted(([, a], [, b]) => (a < b ? -1 : 1));
    const ready = inOrder.map(([, at]) => simSeconds(at));
    if (ready.length === 0) throw new Error(`Unable to measure ${name}: no machine became ready`);
    const makespan = ready.at(-1)!;
    const record = await recordRun({
      journal: product.journal,
      postgresUrl: product.postgresUrl,
      batch: batch.id,
      timeScale,
      fromNs: sentAtNs,
      zeroNs: acceptedAtNs,
      toNs: inOrder.at(-1)![1],
    });
    const wanted: IdealClass = { machines: record.machines, world, seed, of };
    const ideal = await bestRun(wanted);
    const criticalPath = (await criticalPathMs(wanted)) / 1000;
    const reference = ideal.makespanMs / 1000;
    const cpu = cpuUsed(cpuBefore, cpuAfter);
    const calls = Object.values(record.calls).reduce((sum, count) => sum + count, 0);
    const measured = {
      name,
      machines,
      ready: ready.length,
      makespan: round(makespan, 1),
      reference: round(reference, 1),
      overReference: round(makespan / reference),
      criticalPath: round(criticalPath, 1),
      firstOverCriticalPath: round(ready[0]! / criticalPath),
      medianShare: round(percentile(ready, 0.5) / makespan),
      medianShareOfReference: round(percentile([...ideal.readyAtMs.values()], 0.5) / ideal.makespanMs),
      lockTimeoutsPerMachine: round(record.lockTimeouts / machines),
      proxmoxCallsPerMachine: round(calls / machines, 2),
      callsPerMachine: Object.fromEntries(
        Object.entries(record.calls).map(([op, count]) => [op, round(count / machines, 2)]),
      ),
      winrmCommandsPerMachine: round(record.winrmCommands / machines),
      submitSeconds: round(Number(acceptedAtNs - sentAtNs) / 1e9, 2),
      cpuShare: round(cpu.ofProduct / (makespan * timeScale * CORES)),
      cpuSeconds: cpu.byRole,
      remainingTime: remainingTime(told, makespan, planned),
      distance: distance(record, makespan * 1000, ideal),
      pollingAlone: await pollingAlone(wanted, record, ideal.makespanMs),
      steps: stepDelays(record, bootsOf(wanted)),
      firstMachine: timeline(record, inOrder[0]![0]),
      lastMachine: timeline(record, inOrder.at(-1)![0]),
    };
    show(measured);
    return measured;
  } finally {
    await product.stop();
  }
}

/** CPU seconds; the simulated systems are not the product's. */
function cpuUsed(before: Readonly<Record<string, number>>, after: Readonly<Record<string, number>>) {
  const used = Object.entries(after).map(
    ([role, seconds]) => [role, round(seconds - before[role]!, 2)] as const,
  );
  return {
    byRole: Object.fromEntries(used),
    ofProduct: used.reduce((sum, [role, seconds]) => (role === 'simulator' ? sum : sum + seconds), 0),
  };
}

interface Told {
  readonly at: number;
  readonly remaining: number;
}

/** What was foretold over what came: the plan's estimate as a ratio, the remaining time told on the way as an error in shares of the makespan. */
function remainingTime(told: readonly Told[], makespan: number, estimate: number | undefined) {
  const errorAt = (share: number): number | null => {
    const last = told.findLast(({ at }) => at <= share * makespan);
    return last === undefined ? null : round((last.at + last.remaining - makespan) / makespan);
  };
  return {
    planOverTruth: estimate === undefined ? null : round(estimate / makespan),
    errorAtSubmit:
      told[0] === undefined ? null : round((told[0].at + told[0].remaining - makespan) / makespan),
    errorAt25: errorAt(0.25),
    errorAt50: errorAt(0.5),
    errorAt75: errorAt(0.75),
  };
}

/** What the polling of the storage's lock alone costs a scheduler that is ideal otherwise, by the number of guests in the making: per storage, of archives per node. */
async function pollingAlone(wanted: IdealClass, { lock }: RunRecord, referenceMs: number) {
  if (lock.length === 0) return undefined;
  const { of } = wanted;
  // A copy of a container template makes one at a time, whatever is in flight.
  const numbers =
    typeof of === 'object' && of.source === 'templates' ? ['copies'] : [1, 2, 3, 4, 5, 6, 8, 12];
  const rows = [];
  for (const inFlight of numbers) {
    const run = await idealRun(wanted, {
      storageLock: 'polled',
      ...(typeof inFlight === 'number' && { inFlight }),
    });
    rows.push({
      inFlight,
      overReference: round(run.makespanMs / referenceMs),
      lockTimeoutsPerMachine: round(run.lockTimeouts / wanted.machines.length),
      meanLockWait: round(run.lockWaitMs / 1000, 2),
    });
  }
  return rows;
}

function missedBounds(one: Measured, bounds: typeof BOUNDS | typeof CONTAINER_BOUNDS): string[] {
  const missed = one.ready === one.machines ? [] : [`${one.name}: only ${one.ready} machines became ready`];
  for (const [figure, bound] of Object.entries(bounds)) {
    const value = one[figure as keyof Measured];
    if (typeof bound === 'number' && typeof value === 'number' && value > bound)
      missed.push(`${one.name}: ${figure} is ${value}, the bound is ${bound}`);
  }
  return missed;
}

function grownFigures(classes: readonly Measured[]): string[] {
  const [small, large] = [classes[0], classes.at(-1)];
  if (small === undefined || large === undefined || small === large) return [];
  const { share, calls, commands } = BOUNDS.growth;
  const isGrown = (before: number, after: number, amount: number): boolean =>
    after > Math.max(before * share, before + amount);
  const grown: string[] = [];
  if (isGrown(small.proxmoxCallsPerMachine, large.proxmoxCallsPerMachine, calls))
    grown.push(
      `Proxmox calls per machine grow from ${small.proxmoxCallsPerMachine} to ${large.proxmoxCallsPerMachine}`,
    );
  if (isGrown(small.winrmCommandsPerMachine, large.winrmCommandsPerMachine, commands))
    grown.push(
      `WinRM commands per machine grow from ${small.winrmCommandsPerMachine} to ${large.winrmCommandsPerMachine}`,
    );
  return grown;
}

/** For people. */
function show(one: Omit<Measured, never>): void {
  const line = (title: string, value: unknown): void => say(`  ${title.padEnd(28)} ${String(value)}`);
  say(`${one.name}: ${one.ready} of ${one.machines} ready`);
  line('makespan over reference', `${one.overReference} (${one.makespan} s over ${one.reference} s)`);
  line('first over critical path', `${one.firstOverCriticalPath} (critical path ${one.criticalPath} s)`);
  line('median over makespan', `${one.medianShare} (of the reference ${one.medianShareOfReference})`);
  line('lock time-outs per machine', one.lockTimeoutsPerMachine);
  line('Proxmox calls per machine', `${one.proxmoxCallsPerMachine} ${JSON.stringify(one.callsPerMachine)}`);
  line('WinRM commands per machine', one.winrmCommandsPerMachine);
  line("product's CPU share", `${one.cpuShare} ${JSON.stringify(one.cpuSeconds)}`);
  line('remaining time', JSON.stringify(one.remainingTime));
  line('distance, s', JSON.stringify(one.distance));
  for (const row of one.pollingAlone ?? []) line(`polling alone, ${row.inFlight}`, JSON.stringify(row));
  line('first machine, s', JSON.stringify(one.firstMachine));
  line('last machine, s', JSON.stringify(one.lastMachine));
  for (const step of one.steps) line(`step ${step.step}, s`, stepText(step));
}

function stepText({ wait, start, seen, attemptsPerMachine }: StepDelays): string {
  const text = ({ mean, p95 }: StepDelays['wait']): string => `${mean} (p95 ${p95})`;
  return `wait ${text(wait)}  ${start ? `start ${text(start)}  ` : ''}${seen ? `seen ${text(seen)}  ` : ''}attempts ${attemptsPerMachine}`;
}
