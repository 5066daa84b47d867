import { buildWorld, type WorldSpec } from '../../../src/simulators/build-world.js';
import { REQUEST_MS } from '../../../src/simulators/guacamole/guacamole-simulator.js';
import { copyMiBps, drawBootMs, drawMs, drawStorageMs } from '../../../src/simulators/proxmox/durations.js';
import { SimRandom } from '../../../src/simulators/seed.js';
import { ENTRY_MS, POWERSHELL_START_MS } from '../../../src/simulators/winrm/script-runner.js';
import type { World, WorldStorage } from '../../../src/simulators/world.js';
import { Places, VirtualTime } from './virtual-time.js';

/** A class as the product placed it, in the order of its roster. */
export interface IdealClass {
  readonly machines: readonly { readonly vmid: number; readonly node: string }[];
  readonly world: WorldSpec;
  readonly seed: string;
  readonly clone: 'linked' | 'full';
}

export interface IdealOptions {
  /** `handed-over`: a freed lock goes to the next one at once, as no cluster does it; `polled`: as the world's Proxmox VE does it. */
  readonly storageLock?: 'handed-over' | 'polled';
  /** Clones in flight per storage; left out = as many as there are machines. */
  readonly clonesPerStorage?: number;
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

const OBTAIN_MS = 10_000;
/** Calls that a node carries out at once. */
const NODE_WORKERS = 3;
/** More starts than this at once slow each other down. */
const STARTS_AT_FULL_SPEED = 8;
const COPY_STEPS = 20;

/**
 * Makes the class as a scheduler would that knows everything at once and costs nothing, on the durations that the simulated cluster
 * draws for the same seed and the same VMIDs. What the cluster itself imposes is kept: a storage's lock has one holder, a node has three
 * workers for calls, many starts at once slow each other down, copies share their storage's rate, a guest starts when its MAC address is
 * allowed and is ready when its agent is up and the gateway knows it. Work goes to whoever is nearest to its end, then by the roster.
 *
 * It leaves out, and so is a bound that cannot be reached: any read, HTTP, TLS and proxying; the polling of locks; the way from the end
 * of a task to whoever waits for it; limits on what is in flight; every database and queue; retries. All MAC addresses are allowed by one
 * script that starts with the batch, and the agent is asked at the very moment at which it is up.
 */
export async function idealRun(wanted: IdealClass, options: IdealOptions = {}): Promise<IdealRun> {
  const time = new VirtualTime();
  const cluster = new IdealCluster(wanted, options, time);
  const readyAtMs = new Map<number, number>();
  await time.run(
    Promise.all(
      wanted.machines.map(async (machine, index) => {
        await cluster.make(machine, index);
        readyAtMs.set(machine.vmid, time.nowMs);
      }),
    ),
  );
  return {
    readyAtMs,
    makespanMs: Math.max(...readyAtMs.values()),
    lock: cluster.busiestLock(),
    lockTimeouts: cluster.lockTimeouts,
    lockWaitMs: cluster.lockWaitsMs.reduce((sum, one) => sum + one, 0) / cluster.lockWaitsMs.length,
  };
}

/** Simulated milliseconds that one machine of the class takes alone: the median of them all. */
export async function criticalPathMs(wanted: IdealClass): Promise<number> {
  const alone: number[] = [];
  for (const machine of wanted.machines)
    alone.push((await idealRun({ ...wanted, machines: [machine] })).makespanMs);
  return alone.toSorted((a, b) => a - b)[Math.floor(alone.length / 2)]!;
}

/** Simulated milliseconds from each machine's start until its agent is up, by VMID. */
export function bootsMs({ machines, world, seed }: IdealClass): ReadonlyMap<number, number> {
  const built = buildWorld(world, seed);
  const context = { world: built, random: new SimRandom(`${built.seed}|${built.life}`) };
  return new Map(machines.map(({ vmid }) => [vmid, drawBootMs(context, vmid)]));
}

interface StorageLock {
  readonly handedOver: Places;
  isHeld: boolean;
  firstMs: number;
  heldMs: number;
  lastMs: number;
}

class IdealCluster {
  lockTimeouts = 0;
  readonly lockWaitsMs: number[] = [];
  readonly #world: World;
  readonly #random: SimRandom;
  readonly #workers: ReadonlyMap<string, Places>;
  readonly #locks = new Map<string, StorageLock>();
  readonly #slots = new Map<string, Places>();
  readonly #copies = new Map<string, number>();
  readonly #starting = new Map<string, number>();
  readonly #allowed: Promise<void>;

  constructor(
    private readonly wanted: IdealClass,
    private readonly options: IdealOptions,
    private readonly time: VirtualTime,
  ) {
    this.#world = buildWorld(wanted.world, wanted.seed);
    this.#random = new SimRandom(`${this.#world.seed}|${this.#world.life}`);
    this.#workers = new Map(this.#world.nodes.map(({ name }) => [name, new Places(NODE_WORKERS)]));
    const { median, p95 } = POWERSHELL_START_MS;
    this.#allowed = time.sleep(this.#random.stream('winrm.script', 'allow').logNormal(median, p95));
  }

  /** `index` = place in the roster. */
  async make(machine: { vmid: number; node: string }, index: number): Promise<void> {
    const allowed = this.#allowed.then(() => this.time.sleep(ENTRY_MS * (index + 1)));
    await this.#clone(machine, index);
    await this.#call(machine.node, 'config-write', 'qemu.config.put', index);
    await this.#call(machine.node, 'fork', 'qemu.resize', index);
    await this.time.sleep(this.#draw('resize', machine.vmid));
    await allowed;
    await this.#start(machine, index);
    await this.time.sleep(drawBootMs(this.#context, machine.vmid));
    const gateway = this.#random.stream('gateway', machine.vmid);
    // The connection, then the permission on it; group and account were made while the machine booted.
    await this.time.sleep(gateway.logNormal(REQUEST_MS.median, REQUEST_MS.p95));
    await this.time.sleep(gateway.logNormal(REQUEST_MS.median, REQUEST_MS.p95));
  }

  busiestLock(): { firstMs: number; heldMs: number; lastMs: number } {
    const [busiest] = [...this.#locks.values()].toSorted((a, b) => b.heldMs - a.heldMs);
    const { firstMs, heldMs, lastMs } = busiest!;
    return { firstMs, heldMs, lastMs };
  }

  async #clone({ vmid, node }: { vmid: number; node: string }, index: number): Promise<void> {
    const { template, storage } = this.#source(node);
    const slots = this.#of(this.#slots, this.#lockOf(storage, template.node), () => {
      return new Places(this.options.clonesPerStorage ?? Infinity);
    });
    await slots.with(index, async () => {
      await this.#call(template.node, 'fork', 'qemu.clone', index);
      for (const disk of ['cloudInit', 'link'] as const) {
        const isNear = disk === 'link';
        await this.#underLock(this.#lockOf(storage, template.node), isNear ? index : index + 1e6, () =>
          this.time.sleep(drawStorageMs(this.#context, storage, disk, vmid)),
        );
        await this.time.sleep(this.#draw('clone-step', vmid));
        if (isNear && this.wanted.clone === 'full') await this.#copy(storage, diskGiB(template), vmid);
      }
      // The firewall's file and the pool, each under a lock that is hardly ever contended.
      await this.time.sleep(this.#draw('cluster-write', vmid));
      await this.time.sleep(this.#draw('cluster-write', vmid));
    });
  }

  async #start({ vmid, node }: { vmid: number; node: string }, index: number): Promise<void> {
    await this.#call(node, 'fork', 'qemu.start', index);
    const starting = (this.#starting.get(node) ?? 0) + 1;
    this.#starting.set(node, starting);
    await this.time.sleep(this.#draw('cloud-init-iso', vmid));
    await this.time.sleep(this.#draw('start', vmid) * Math.max(1, starting / STARTS_AT_FULL_SPEED));
    this.#starting.set(node, this.#starting.get(node)! - 1);
  }

  /** A write, as long as a worker of the node is busy with it. */
  #call(node: string, kind: 'fork' | 'config-write', op: string, turn: number): Promise<void> {
    return this.#workers.get(node)!.with(turn, () => this.time.sleep(this.#draw(kind, op)));
  }

  async #copy(storage: WorldStorage, gib: number, vmid: number): Promise<void> {
    const speed = copyMiBps(storage) * this.#random.stream('copy', vmid).logNormal(1, 1.5);
    const count = (by: number): number => {
      const copies = (this.#copies.get(storage.id) ?? 0) + by;
      this.#copies.set(storage.id, copies);
      return copies;
    };
    count(1);
    for (let step = 0; step < COPY_STEPS; step += 1)
      await this.time.sleep(((gib * 1024) / COPY_STEPS / speed) * 1000 * count(0));
    count(-1);
  }

  async #underLock(id: string, turn: number, work: () => Promise<void>): Promise<void> {
    const lock = this.#of(this.#locks, id, () => ({
      handedOver: new Places(1),
      isHeld: false,
      firstMs: this.time.nowMs,
      heldMs: 0,
      lastMs: 0,
    }));
    const askedAtMs = this.time.nowMs;
    const hold = async (): Promise<void> => {
      const gotAtMs = this.time.nowMs;
      this.lockWaitsMs.push(gotAtMs - askedAtMs);
      await work();
      lock.heldMs += this.time.nowMs - gotAtMs;
      lock.lastMs = this.time.nowMs;
    };
    if (this.options.storageLock !== 'polled') return lock.handedOver.with(turn, hold);
    await this.#poll(lock);
    lock.isHeld = true;
    await hold();
    lock.isHeld = false;
  }

  /** Whoever looks first has it. After a time-out the request is made again. */
  async #poll(lock: StorageLock): Promise<void> {
    for (let askedAtMs = this.time.nowMs; lock.isHeld;) {
      const remainingMs = OBTAIN_MS - (this.time.nowMs - askedAtMs);
      if (remainingMs <= 0) {
        this.lockTimeouts += 1;
        askedAtMs = this.time.nowMs;
        continue;
      }
      await this.time.sleep(
        this.#world.lockPolling === 'legacy' ? 1_000 : Math.max(1, Math.min(1_000, remainingMs / 10)),
      );
    }
  }

  /** The template that a machine on this node is cloned from: its own node's, else the first. */
  #source(node: string): {
    template: { vmid: number; node: string; config: Record<string, string> };
    storage: WorldStorage;
  } {
    const templates = [...this.#world.guests.values()].filter(
      ({ kind, config }) => kind === 'qemu' && config['template'] === '1',
    );
    const template = templates.find((one) => one.node === node) ?? templates[0]!;
    const [id] = template.config['scsi0']!.split(':');
    return { template, storage: this.#world.storages.find((storage) => storage.id === id)! };
  }

  #lockOf(storage: WorldStorage, node: string): string {
    return storage.shared ? storage.id : `${node}/${storage.id}`;
  }

  #of<T>(map: Map<string, T>, key: string, make: () => T): T {
    const found = map.get(key) ?? make();
    map.set(key, found);
    return found;
  }

  get #context(): { random: SimRandom; world: World } {
    return { random: this.#random, world: this.#world };
  }

  #draw(kind: Parameters<typeof drawMs>[1], key: string | number): number {
    return drawMs(this.#context, kind, key);
  }
}

const diskGiB = ({ config }: { config: Record<string, string> }): number =>
  Number(/size=(\d+)G/.exec(config['scsi0']!)?.[1]);
