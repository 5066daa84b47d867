import { buildWorld, type WorldSpec } from '../../../src/simulators/build-world.js';
import { drawBootMs } from '../../../src/simulators/proxmox/durations.js';
import { SimRandom } from '../../../src/simulators/seed.js';
import { firstBootMs, IdealContainers, networkMs, type IdealContainer } from './ideal-container.js';
import { IdealNodes, type IdealOptions } from './ideal-nodes.js';
import { IdealVms } from './ideal-vm.js';
import { VirtualTime } from './virtual-time.js';

/** A class as the product placed it, in the order of its roster. */
export interface IdealClass {
  readonly machines: readonly { readonly vmid: number; readonly node: string }[];
  readonly world: WorldSpec;
  readonly seed: string;
  /** Virtual machines are clones of this kind. */
  readonly of: 'linked' | 'full' | IdealContainer;
}

export interface IdealRun {
  /** Simulated milliseconds from the submit, by VMID. */
  readonly readyAtMs: ReadonlyMap<number, number>;
  readonly makespanMs: number;
  /** Of the busiest storage lock: when it was first taken, how long it was held in all, when it was last given back. */
  readonly lock: { readonly firstMs: number; readonly heldMs: number; readonly lastMs: number };
  /** Storage locks that were not had within their 10 s, and the mean wait for those that were. */
  readonly lockTimeouts: number;
  readonly lockWaitMs: number;
}

/**
 * Makes the class as a scheduler would that knows everything at once and costs nothing, on the durations that the simulated cluster
 * draws for the same seed and the same VMIDs. What the cluster itself imposes is kept: a storage's lock has one holder, a node has three
 * workers for calls, many starts at once slow each other down, copies share their storage's rate, a copy of a container template is cloned
 * once at a time, a node shares what it can unpack, a guest starts when its MAC address is allowed and is ready when its agent is up and the
 * gateway knows it, a container when its first boot is over, too. Work goes to whoever is nearest to its end, then by the roster.
 *
 * It leaves out, and so is a bound that cannot be reached: any read, HTTP, TLS and proxying; the polling of locks; the way from the end
 * of a task to whoever waits for it; limits on what is in flight; every database and queue; retries. All MAC addresses are allowed by one
 * script that starts with the batch, the agent is asked at the very moment at which it is up, a node is told everything at once, and a copy of
 * a template is asked for at the very moment at which it is free.
 */
export async function idealRun(wanted: IdealClass, options: IdealOptions = {}): Promise<IdealRun> {
  const time = new VirtualTime();
  const nodes = new IdealNodes(wanted, options, time);
  const line =
    typeof wanted.of === 'string' ? new IdealVms(nodes, wanted.of) : new IdealContainers(nodes, wanted.of);
  const readyAtMs = new Map<number, number>();
  await time.run(
    Promise.all(
      wanted.machines.map(async (machine, turn) => {
        await line.make({ ...machine, turn });
        readyAtMs.set(machine.vmid, time.nowMs);
      }),
    ),
  );
  return {
    readyAtMs,
    makespanMs: Math.max(...readyAtMs.values()),
    lock: nodes.busiestLock(),
    lockTimeouts: nodes.lockTimeouts,
    lockWaitMs: nodes.lockWaitsMs.reduce((sum, one) => sum + one, 0) / nodes.lockWaitsMs.length,
  };
}

/** Archives that a node unpacks at once share what it can do, and more of them wait shorter for each other: nobody knows how many are best. */
const UNPACKED_AT_ONCE = [4, 5, 6, 8, 10, 14, 20, Infinity];

/** The shortest run, whatever is in flight. */
export async function bestRun(wanted: IdealClass): Promise<IdealRun> {
  if (typeof wanted.of === 'string' || wanted.of.source === 'templates') return idealRun(wanted);
  const runs = [];
  for (const inFlight of UNPACKED_AT_ONCE) runs.push(await idealRun(wanted, { inFlight }));
  return runs.toSorted((a, b) => a.makespanMs - b.makespanMs)[0]!;
}

/** Simulated milliseconds that one machine of the class takes alone: the median of them all. */
export async function criticalPathMs(wanted: IdealClass): Promise<number> {
  const alone: number[] = [];
  for (const machine of wanted.machines)
    alone.push((await idealRun({ ...wanted, machines: [machine] })).makespanMs);
  return alone.toSorted((a, b) => a - b)[Math.floor(alone.length / 2)]!;
}

/** What a guest does by itself, in simulated milliseconds. */
export interface Boot {
  /** From its start until its address can be told. */
  readonly upMs: number;
  /** From then on; 0 = it has none. */
  readonly firstBootMs: number;
}

/** By VMID. */
export function bootsOf({ machines, world, seed, of }: IdealClass): ReadonlyMap<number, Boot> {
  const built = buildWorld(world, seed);
  const context = { world: built, random: new SimRandom(`${built.seed}|${built.life}`) };
  return new Map(
    machines.map(({ vmid }) => [
      vmid,
      typeof of === 'string'
        ? { upMs: drawBootMs(context, vmid), firstBootMs: 0 }
        : { upMs: networkMs(context, vmid), firstBootMs: of.hasFirstBoot ? firstBootMs(context, vmid) : 0 },
    ]),
  );
}
