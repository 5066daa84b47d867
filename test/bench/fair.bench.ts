import { parseArgs } from 'node:util';
import pg from 'pg';
import type { WorldSpec } from '../../src/simulators/build-world.js';
import { type Bench, percentile, round, say } from './support/bench.js';
import { type BenchProduct, followToEnd, rosterOf, startProduct, submitRoster } from './support/product.js';

/** Boots that differ by about 10 %: what is measured is who waits for whom. */
const WORLD: WorldSpec = {
  boot: { medianMs: 25_000, p95Ms: 27_500 },
  // Room for two classes, one after the other.
  nodes: ['pve1', 'pve2', 'pve3'].map((name) => ({ name, cores: 128, memoryMiB: 4_194_304 })),
};
const BOUNDS = { oneOverIdle: 1.5, classesApart: 0.1 } as const;
/** One machine is submitted when so much of the class is ready. */
const MOMENTS = [0.25, 0.5, 0.75] as const;
const IDLE_MACHINES = 3;

/**
 * Whether one machine of a member goes ahead of a class, and whether two classes that are submitted together end together.
 * Options: `--machines N` of the class, and of both classes together (600); `--time-scale F` (0.1); `--workers N` (2).
 */
export const bench: Bench = async (args) => {
  const { values } = parseArgs({
    args: [...args],
    options: {
      machines: { type: 'string', default: '600' },
      'time-scale': { type: 'string', default: '0.1' },
      workers: { type: 'string', default: '2' },
    },
  });
  const machines = Number(values.machines);
  const product = await startProduct({
    timeScale: Number(values['time-scale']),
    world: WORLD,
    workers: Number(values.workers),
  });
  try {
    const idle: number[] = [];
    for (let number = 1; number <= IDLE_MACHINES; number += 1)
      idle.push(await make(product, 'member', 1, `idle${number}`));
    say(`one machine on an idle cluster: ${idle.map((seconds) => `${round(seconds, 2)} s`).join(', ')}`);
    const among = await oneAmongMany(product, machines);
    const classes = await twoClasses(product, machines);
    const oneOverIdle = percentile(among.ones, 0.5) / percentile(idle, 0.5);
    const classesApart = Math.abs(classes[0]! - classes[1]!) / Math.max(...classes);
    return {
      isMet: oneOverIdle <= BOUNDS.oneOverIdle && classesApart <= BOUNDS.classesApart,
      oneOverIdle: round(oneOverIdle),
      classesApart: round(classesApart),
      bounds: BOUNDS,
      machines,
      timeScale: product.timeScale,
      seconds: {
        idle: idle.map((one) => round(one, 2)),
        among: among.ones.map((one) => round(one, 2)),
        class: round(among.class, 1),
        twoClasses: classes.map((one) => round(one, 1)),
      },
      cloneLimits: await cloneLimits(product),
    };
  } finally {
    await product.stop();
  }
};

/** Seconds of each machine that was submitted while a class of `machines` was being made, and of the class. */
async function oneAmongMany(
  product: BenchProduct,
  machines: number,
): Promise<{ ones: number[]; class: number }> {
  const ones: Promise<number>[] = [];
  const left = [...MOMENTS];
  const seconds = await make(product, 'teacher', machines, 'class', (ready) => {
    const moment = left[0];
    if (moment === undefined || ready < moment * machines) return;
    left.shift();
    say(`${ready} of ${machines} are ready: one more for a member`);
    ones.push(make(product, 'member', 1, `one${ones.length}`));
  });
  return { ones: await Promise.all(ones), class: seconds };
}

/** Seconds of two classes of two owners, half of the machines each, submitted together. */
async function twoClasses(product: BenchProduct, machines: number): Promise<number[]> {
  const half = Math.floor(machines / 2);
  const both = await Promise.all(
    ['first', 'second'].map((name) => make(product, `teacher-${name}`, half, name)),
  );
  say(`two classes of ${half}: ${both.map((seconds) => `${round(seconds, 1)} s`).join(', ')}`);
  return both;
}

/** Makes a class; gives the seconds from the 202 to the moment when its last machine is ready. */
async function make(
  product: BenchProduct,
  owner: string,
  machines: number,
  name: string,
  seen: (ready: number) => void = () => undefined,
): Promise<number> {
  const client = await product.signIn(owner);
  const { batch, acceptedAtNs } = await submitRoster(client, {
    name,
    roster: await rosterOf(machines, `${name}-`),
  });
  let ready = 0;
  const { readyAtNs } = await followToEnd(product, client, batch, ({ type, state }) => {
    if (type === 'machine.state' && state === 'ready') seen((ready += 1));
  });
  if (readyAtNs.size < machines)
    throw new Error(`Unable to measure: only ${readyAtNs.size} of ${machines} machines of ${name} are ready`);
  const last = [...readyAtNs.values()].reduce((a, b) => (a > b ? a : b));
  const seconds = Number(last - acceptedAtNs) / 1e9;
  say(`${name}: ${machines} in ${round(seconds, 2)} s`);
  return seconds;
}

/** Where the limits that follow the lock wait came to stand. */
async function cloneLimits(product: BenchProduct): Promise<object[]> {
  const client = new pg.Client({ connectionString: product.postgresUrl });
  await client.connect();
  try {
    const { rows } = await client.query<object>(
      `select resource, measured as limit, why, round(wait_ms) as "waitMs", waits from slot_limits where measured is not null`,
    );
    return rows;
  } finally {
    await client.end();
  }
}
